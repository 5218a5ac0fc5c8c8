//! Cases, one after another.

use std::process::Command;
use std::time::{Duration, Instant};

use tensorlift_bench_protocol::Request;

use crate::definition::{Cache, Case};
use crate::engine::{Engine, Program};
use crate::{Result, Results, Store, round, table};

/// What is measured, and by whose processes.
pub struct Bench<'a> {
    /// In this order.
    pub cases: Vec<Case>,
    /// Each takes part where it can.
    pub engines: Vec<Engine>,
    /// The process of a program that answers a request.
    pub launch: &'a dyn Fn(Program, &Request) -> Command,
    /// Where the checkpoints are.
    pub store: Store,
    /// Where those are that lie in memory.
    pub tmpfs: Option<Store>,
    /// Rounds, in place of what the cases say.
    pub rounds: Option<usize>,
    /// Whether only the bytes matter, and no time is shown.
    pub smoke: bool,
    /// When the last run must have ended: none is begun that is expected to take longer.
    pub deadline: Option<Instant>,
}

impl Bench<'_> {
    /// Measures all cases, and writes the results after each: a long run that is cut off keeps
    /// what it has.
    ///
    /// # Errors
    /// If a checkpoint or the results cannot be written, and in the end if an engine of this
    /// repository failed.
    pub fn run(&self, results: &mut Results) -> Result<()> {
        let mut failures = Vec::new();
        for case in &self.cases {
            if self.is_over() {
                println!("{}: not run: the time is over", case.name());
                continue;
            }
            let store = match (case.cache, &self.tmpfs) {
                (Cache::Tmpfs, Some(tmpfs)) => tmpfs,
                (Cache::Tmpfs, None) => return Err("no folder on a tmpfs was given".into()),
                _ => &self.store,
            };
            let checkpoint = store.checkpoint(case)?;
            let measured = round::run_all(self, case, &checkpoint);
            match self.smoke {
                true => {
                    let runs = measured.good_runs();
                    println!("{}: {runs} runs, all bytes right", case.name());
                }
                false => print!("{}", table::for_terminal(&measured)),
            }
            failures.extend(measured.failures());
            results.put(measured);
            results.write()?;
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "engines of this repository failed:\n{}",
                failures.join("\n")
            )
            .into()),
        }
    }

    fn is_over(&self) -> bool {
        !self.has_time_for(Duration::ZERO)
    }

    pub(crate) fn has_time_for(&self, time: Duration) -> bool {
        self.deadline.is_none_or(|end| Instant::now() + time < end)
    }
}
