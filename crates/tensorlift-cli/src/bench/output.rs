//! What is printed, for people or for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use tensorlift::Bytes;

use super::Start;
use super::candidates::WorkKind;
use super::rounds::Measured;
use super::verdict::Verdict;
use crate::device::Started;
use crate::doctor::{Finding, write_findings};
use crate::table::{Table, printable};

/// A line for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// What the machine offers, as `doctor` finds it.
    Machine {
        /// One for each property.
        findings: &'a [Finding],
    },
    /// What the GPU's start took.
    Device(&'a Started),
    /// What a setting reached.
    Measured(Row<'a>),
    /// The best setting.
    Best(&'a Verdict),
    /// Loads that begin so cannot be measured.
    NotRun {
        /// Where the files would have been.
        start: Start,
        /// Why they cannot be there.
        why: &'a str,
    },
}

/// What a setting reached.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Row<'a> {
    /// Where the files were.
    start: Start,
    /// What was measured.
    work: WorkKind,
    /// In what it differs from the defaults, by the names of the settings; of raw reads, what they
    /// are.
    set: &'a BTreeMap<&'static str, String>,
    /// Gigabytes (10⁹ bytes) per second of each round.
    rounds: &'a [f64],
    /// Their median.
    #[serde(skip_serializing_if = "Option::is_none")]
    median: Option<f64>,
    /// Threads that read at the end of the last round.
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    /// Readers that ran in the last round.
    readers: &'a [&'static str],
    /// Why it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_run: Option<&'a str>,
}

/// Where lines go.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    json: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json }
    }

    pub(super) fn machine(&mut self, findings: &[Finding]) -> io::Result<()> {
        if self.json {
            return self.line(&Line::Machine { findings });
        }
        write_findings(self.out, findings)?;
        self.out.flush()
    }

    pub(super) fn device(&mut self, started: &Started) -> io::Result<()> {
        match self.json {
            true => self.line(&Line::Device(started)),
            false => writeln!(
                self.out,
                "\n{} ({}): started in {:.3} s, pinned {} for {} lanes in {:.3} s",
                started.device,
                printable(&started.model),
                started.start_seconds,
                Bytes(started.pinned_bytes),
                started.lanes,
                started.pinning_seconds
            ),
        }
    }

    pub(super) fn measured(&mut self, start: Start, all: &[Measured]) -> io::Result<()> {
        if self.json {
            let mut rows = all.iter().map(|measured| Row::of(start, measured));
            return rows.try_for_each(|row| self.line(&Line::Measured(row)));
        }
        let measured = |it: &&Measured| !it.rates.is_empty() || it.not_run.is_some();
        if !all.iter().any(|it| measured(&it)) {
            return Ok(());
        }
        let place = match start {
            Start::Warm => "in the page cache",
            Start::Cold => "on the disk alone",
        };
        let heads = [place, "GB/s", "range", "rounds", "threads", "readers"];
        let mut table = Table::new(&heads, &[1, 2, 3, 4]);
        for it in all.iter().filter(measured) {
            let mut row = vec![it.candidate.name()];
            match (&it.not_run, it.median()) {
                (None, Some(median)) => row.extend([
                    format!("{median:.2}"),
                    format!("{:.2} to {:.2}", it.slowest(), it.fastest()),
                    it.rates.len().to_string(),
                    it.threads.map_or(String::new(), |count| count.to_string()),
                    it.readers.join(", "),
                ]),
                (why, _) => {
                    let why = why.as_deref().unwrap_or_default();
                    row.extend(["-".into(), "-".into(), "0".into(), String::new()]);
                    row.push(format!("not run: {}", printable(why)));
                }
            }
            table.row(row);
        }
        writeln!(self.out)?;
        table.write(&mut self.out)
    }

    pub(super) fn best(&mut self, verdict: &Verdict) -> io::Result<()> {
        match self.json {
            true => self.line(&Line::Best(verdict)),
            false => writeln!(self.out, "{}", verdict.describe()),
        }?;
        self.out.flush()
    }

    pub(super) fn not_run(&mut self, start: Start, why: &str) -> io::Result<()> {
        if self.json {
            return self.line(&Line::NotRun { start, why });
        }
        let loads = match start {
            Start::Warm => "loads of files in the page cache",
            Start::Cold => "loads of files on the disk alone",
        };
        writeln!(self.out, "{loads} were not measured: {}", printable(why))
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, line)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

impl<'a> Row<'a> {
    fn of(start: Start, measured: &'a Measured) -> Self {
        Self {
            start,
            work: measured.candidate.kind(),
            set: &measured.candidate.set,
            rounds: &measured.rates,
            median: measured.median(),
            threads: measured.threads,
            readers: &measured.readers,
            not_run: measured.not_run.as_deref(),
        }
    }
}
