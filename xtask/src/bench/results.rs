//! What was measured, every raw value kept.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tensorlift_bench_protocol::Outcome;

use super::data::Checkpoint;
use super::definition::{Cache, Case, FileFormat, Series};
use super::engine::{Engine, Mode, Program};
use super::stats::Spread;
use super::{FOLDER, plot, table};
use crate::Result;
use crate::command::root;

/// Some cases, measured on one machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Results {
    #[serde(skip)]
    name: String,
    /// What it was measured on.
    pub(super) machine: String,
    pub(super) cases: Vec<Measured>,
}

/// A case, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) date: String,
    pub(super) format: FileFormat,
    pub(super) cache: Cache,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) series: Option<Series>,
    /// Bytes of all tensors.
    pub(super) bytes: u64,
    pub(super) tensors: u64,
    /// Why it was not measured, or not to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_run: Option<String>,
    pub(super) rows: Vec<Row>,
}

/// An engine's runs, in one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) engine: String,
    pub(super) setting: String,
    pub(super) program: Program,
    pub(super) mode: Mode,
    pub(super) limit: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    pub(super) runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) round: usize,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// # On disk
impl Results {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            machine: String::new(),
            cases: Vec::new(),
        }
    }

    pub(super) fn open(name: &str) -> Result<Self> {
        let path = path(name, "json");
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut results: Self = serde_json::from_slice(&text)?;
        results.name = name.to_owned();
        Ok(results)
    }

    pub(super) fn open_or_new(name: &str) -> Result<Self> {
        match path(name, "json").exists() {
            true => Self::open(name),
            false => Ok(Self::new(name)),
        }
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = path(&self.name, "json");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }

    /// Writes tables and plots; results with a name of their own show up in BENCHMARKS.md too.
    pub(super) fn render(&self) -> Result<()> {
        fs::write(path(&self.name, "md"), table::details(self))?;
        fs::write(path(&self.name, "svg"), plot::bars(self))?;
        fs::write(
            path(&format!("{}-growth", self.name), "svg"),
            plot::growth(self),
        )?;
        println!("written: {}", path(&self.name, "md").display());
        if self.name.contains('/') {
            return Ok(());
        }
        let page = root().join("BENCHMARKS.md");
        let text = fs::read_to_string(&page)?;
        fs::write(
            &page,
            crate::page::insert(&text, &self.name, &table::summary(self))?,
        )?;
        Ok(())
    }
}

/// # Cases
impl Results {
    /// Adds a case, in place of an older one of its name.
    pub(super) fn put(&mut self, measured: Measured) {
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
    pub(super) fn new(case: &Case, checkpoint: &Checkpoint) -> Self {
        Self {
            name: case.name(),
            date: super::machine::today(),
            format: case.format,
            cache: case.cache,
            series: case.series,
            bytes: checkpoint.expected.bytes,
            tensors: checkpoint.expected.tensors,
            not_run: None,
            rows: Vec::new(),
        }
    }

    pub(super) fn good_runs(&self) -> usize {
        self.rows.iter().map(|row| row.runs.len()).sum()
    }

    /// What failed that should not.
    pub(super) fn failures(&self) -> Vec<String> {
        let ours = self
            .rows
            .iter()
            .filter(|row| row.program == Program::Engines);
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
    pub(super) fn best(&self) -> Vec<&Row> {
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
    pub(super) fn limit(&self, mode: Mode) -> Option<&Row> {
        let best = self.best().into_iter();
        best.filter(|row| row.limit && row.mode == mode && row.seconds().is_some())
            .min_by(|one, other| one.median().total_cmp(&other.median()))
    }

    /// tensorlift as it comes, in a mode.
    pub(super) fn ours(&self, mode: Mode) -> Option<&Row> {
        let best = self.best().into_iter();
        best.filter(|row| row.seconds().is_some())
            .find(|row| row.mode == mode && row.is_tensorlift())
    }
}

impl Row {
    pub(super) fn new(engine: &Engine, setting: &str) -> Self {
        Self {
            engine: engine.name.clone(),
            setting: setting.to_owned(),
            program: engine.program,
            mode: engine.mode,
            limit: engine.limit,
            failure: None,
            runs: Vec::new(),
        }
    }

    /// Whether it is this project's engine, in its defaults.
    pub(super) fn is_tensorlift(&self) -> bool {
        matches!(self.engine.as_str(), "tensorlift" | "tensorlift-map")
    }

    /// The times, unless a run failed.
    pub(super) fn seconds(&self) -> Option<Spread> {
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
    pub(super) fn times(&self, other: &Row) -> Option<Spread> {
        let round = |round| other.runs.iter().find(|run| run.round == round);
        Spread::of(
            self.runs
                .iter()
                .filter_map(|run| Some(run.outcome.seconds / round(run.round)?.outcome.seconds)),
        )
    }

    /// The most memory that a load took, in bytes; the median of the runs.
    pub(super) fn growth(&self) -> Option<f64> {
        let growth = self.runs.iter().map(|run| run.outcome.growth() as f64);
        Spread::of(growth).map(|spread| spread.median)
    }
}

fn path(name: &str, extension: &str) -> PathBuf {
    let folder = root().join(FOLDER).join("results");
    folder.join(format!("{name}.{extension}"))
}

#[cfg(test)]
pub(super) mod tests {
    use tensorlift_bench_protocol::Checksum;

    use super::*;

    pub(in crate::bench) fn row(engine: &str, setting: &str, seconds: &[f64]) -> Row {
        let run = |(round, &seconds): (usize, &f64)| Run {
            round,
            outcome: Outcome {
                seconds,
                phases: Vec::new(),
                note: String::new(),
                resident_before: 0,
                resident_peak: 2_000_000_000,
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
            runs: seconds.iter().enumerate().map(run).collect(),
        }
    }

    pub(in crate::bench) fn measured(rows: Vec<Row>) -> Measured {
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
        let mut results = Results::new("local/test");
        results.put(measured(vec![row("a", "", &[1.0])]));
        results.put(measured(vec![row("b", "", &[1.0])]));
        assert_eq!(results.cases.len(), 1);
        assert_eq!(results.cases[0].rows[0].engine, "b");
    }
}
