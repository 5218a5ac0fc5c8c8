//! What was measured, every raw value kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tensorlift_bench_protocol::Outcome;

use crate::data::Checkpoint;
use crate::definition::{Cache, Case, FileFormat, Series};
use crate::engine::{Engine, Mode, Program};
use crate::stats::Spread;
use crate::{Result, plot, table};

/// Some cases, measured on one machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// The file, without its extension.
    #[serde(skip)]
    path: PathBuf,
    /// What it was measured on.
    pub machine: String,
    pub(crate) cases: Vec<Measured>,
}

/// A case, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) date: String,
    pub(crate) format: FileFormat,
    pub(crate) cache: Cache,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<Series>,
    /// Bytes of all tensors.
    pub(crate) bytes: u64,
    pub(crate) tensors: u64,
    /// Why it was not measured, or not to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_run: Option<String>,
    pub(crate) rows: Vec<Row>,
}

/// An engine's runs, in one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) engine: String,
    pub(crate) setting: String,
    pub(crate) program: Program,
    pub(crate) mode: Mode,
    pub(crate) limit: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// The most memory of the device that a load took, in bytes: of a run of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_growth: Option<u64>,
    pub(crate) runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// # On disk
impl Results {
    /// None yet, to be written to `path` and the extensions of each kind of page.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            machine: String::new(),
            cases: Vec::new(),
        }
    }

    /// Those of an earlier run.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = with_suffix(path, ".json");
        let text = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut results: Self = serde_json::from_slice(&text)?;
        results.path = path.to_owned();
        Ok(results)
    }

    /// Those of an earlier run, if there are any.
    ///
    /// # Errors
    /// If there are, and they cannot be read.
    pub fn open_or_new(path: &Path) -> Result<Self> {
        match with_suffix(path, ".json").exists() {
            true => Self::open(path),
            false => Ok(Self::new(path)),
        }
    }

    pub(crate) fn write(&self) -> Result<()> {
        let path = with_suffix(&self.path, ".json");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }

    /// Writes tables and plots beside the results.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn render(&self) -> Result<()> {
        let page = with_suffix(&self.path, ".md");
        fs::write(&page, table::details(self))?;
        fs::write(with_suffix(&self.path, ".svg"), plot::bars(self, |_| true))?;
        // One picture for the front page.
        let large = |name: &str| name.starts_with("llama-2b/") && name.contains("/1-file/");
        if self.cases.iter().any(|case| large(&case.name)) {
            let headline = plot::bars(self, large);
            fs::write(with_suffix(&self.path, "-headline.svg"), headline)?;
        }
        if self.cases.iter().any(|case| case.series.is_some()) {
            fs::write(with_suffix(&self.path, "-growth.svg"), plot::growth(self))?;
        }
        println!("written: {}", page.display());
        Ok(())
    }

    /// The main rows as Markdown.
    #[must_use]
    pub fn summary(&self) -> String {
        table::summary(self)
    }
}

/// # Cases
impl Results {
    /// Adds a case, in place of an older one of its name.
    pub(crate) fn put(&mut self, measured: Measured) {
        self.cases.retain(|other| other.name != measured.name);
        self.cases.push(measured);
        let key = |case: &Measured| {
            let size = match case.series {
                None => 0,
                Some(Series::Bytes) => case.bytes,
                Some(Series::Tensors) => case.tensors,
            };
            (case.series, size, case.name.clone())
        };
        self.cases.sort_by_key(key);
    }
}

impl Measured {
    pub(crate) fn new(case: &Case, checkpoint: &Checkpoint) -> Self {
        Self {
            name: case.name(),
            date: crate::machine::today(),
            format: case.format,
            cache: case.cache,
            series: case.series,
            bytes: checkpoint.expected.bytes,
            tensors: checkpoint.expected.tensors,
            not_run: None,
            rows: Vec::new(),
        }
    }

    pub(crate) fn good_runs(&self) -> usize {
        self.rows.iter().map(|row| row.runs.len()).sum()
    }

    /// What failed that should not.
    pub(crate) fn failures(&self) -> Vec<String> {
        let ours = self
            .rows
            .iter()
            .filter(|row| row.program == Program::Engines || row.is_ours());
        ours.filter_map(|row| {
            let failure = row.failure.as_ref()?;
            Some(format!(
                "{}: {} ({}): {failure}",
                self.name, row.engine, row.setting
            ))
        })
        .collect()
    }

    /// Each engine in its best setting.
    pub(crate) fn best(&self) -> Vec<&Row> {
        let mut best: Vec<&Row> = Vec::new();
        for row in &self.rows {
            match best.iter_mut().find(|other| other.engine == row.engine) {
                None => best.push(row),
                Some(other) if row.beats(other) => *other = row,
                Some(_) => {}
            }
        }
        best
    }

    /// The limit for a mode.
    pub(crate) fn limit(&self, mode: Mode) -> Option<&Row> {
        let best = self.best().into_iter();
        // Of several limits the narrowest holds.
        best.filter(|row| row.limit && row.mode == mode && row.seconds().is_some())
            .max_by(|one, other| one.median().total_cmp(&other.median()))
    }

    /// tensorlift as it comes, in a mode; in cases without it, this project's first engine.
    pub(crate) fn ours(&self, mode: Mode) -> Option<&Row> {
        let best = self.best().into_iter();
        let ours = best.filter(|row| row.mode == mode && row.is_ours() && row.seconds().is_some());
        ours.min_by_key(|row| !row.is_tensorlift())
    }
}

impl Row {
    pub(crate) fn new(engine: &Engine, setting: &str) -> Self {
        Self {
            engine: engine.name.clone(),
            setting: setting.to_owned(),
            program: engine.program,
            mode: engine.mode,
            limit: engine.limit,
            failure: None,
            device_growth: None,
            runs: Vec::new(),
        }
    }

    /// Whether it is one of this project's engines, in whatever program.
    pub(crate) fn is_ours(&self) -> bool {
        self.engine.starts_with("tensorlift")
    }

    /// Whether it is this project's engine, in its defaults.
    fn is_tensorlift(&self) -> bool {
        matches!(self.engine.as_str(), "tensorlift" | "tensorlift-map")
    }

    /// The times, unless a run failed.
    pub(crate) fn seconds(&self) -> Option<Spread> {
        if self.failure.is_some() {
            return None;
        }
        Spread::of(self.runs.iter().map(|run| run.outcome.seconds))
    }

    fn median(&self) -> f64 {
        self.seconds().map_or(f64::INFINITY, |spread| spread.median)
    }

    fn beats(&self, other: &Row) -> bool {
        self.median() < other.median()
    }

    /// This engine's time in times of the other's, round by round.
    pub(crate) fn times(&self, other: &Row) -> Option<Spread> {
        let round = |round| other.runs.iter().find(|run| run.round == round);
        Spread::of(
            self.runs
                .iter()
                .filter_map(|run| Some(run.outcome.seconds / round(run.round)?.outcome.seconds)),
        )
    }

    /// The most memory that a load took, in bytes; the median of the runs.
    pub(crate) fn growth(&self) -> Option<f64> {
        let growth = self.runs.iter().map(|run| run.outcome.growth() as f64);
        Spread::of(growth).map(|spread| spread.median)
    }
}

/// The file whose name is that of the results and this.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use tensorlift_bench_protocol::Checksum;

    use super::*;

    pub(crate) fn row(engine: &str, setting: &str, seconds: &[f64]) -> Row {
        let run = |(round, &seconds): (usize, &f64)| Run {
            round,
            outcome: Outcome {
                seconds,
                phases: Vec::new(),
                note: String::new(),
                resident_before: 0,
                resident_peak: 2_000_000_000,
                device_growth: None,
                again: None,
                pinned: None,
                checksum: Checksum::default(),
            },
        };
        Row {
            engine: engine.into(),
            setting: setting.into(),
            program: Program::Engines,
            mode: Mode::Copy,
            limit: engine == "limit",
            failure: None,
            device_growth: None,
            runs: seconds.iter().enumerate().map(run).collect(),
        }
    }

    pub(crate) fn measured(rows: Vec<Row>) -> Measured {
        Measured {
            name: "case/safetensors/1-file/warm".into(),
            date: "2026-11-23".into(),
            format: FileFormat::Safetensors,
            cache: Cache::Warm,
            series: None,
            bytes: 1_000_000_000,
            tensors: 10,
            not_run: None,
            rows,
        }
    }

    #[test]
    fn the_best_setting_counts() {
        let rows = vec![
            row("limit", "a", &[2.0, 2.0]),
            row("limit", "b", &[1.0, 1.5]),
        ];
        let measured = measured(rows);
        assert_eq!(measured.best().len(), 1);
        assert_eq!(measured.limit(Mode::Copy).unwrap().setting, "b");
        assert!(measured.limit(Mode::Map).is_none());
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let (one, other) = (row("a", "", &[2.0, 30.0]), row("b", "", &[1.0, 10.0]));
        let times = one.times(&other).unwrap();
        assert_eq!((times.median, times.min, times.max), (2.5, 2.0, 3.0));
    }

    #[test]
    fn a_failed_engine_has_no_time() {
        let mut failed = row("a", "", &[1.0]);
        failed.failure = Some("wrong bytes".into());
        assert_eq!(failed.seconds(), None);
        assert_eq!(measured(vec![failed]).failures().len(), 1);
    }

    #[test]
    fn a_case_replaces_the_older_one_of_its_name() {
        let mut results = Results::new(Path::new("test"));
        results.put(measured(vec![row("a", "", &[1.0])]));
        results.put(measured(vec![row("b", "", &[1.0])]));
        assert_eq!(results.cases.len(), 1);
        assert_eq!(results.cases[0].rows[0].engine, "b");
    }
}
