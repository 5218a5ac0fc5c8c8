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
        for (index, case) in self.cases.iter().enumerate() {
            if self.is_over() {
                println!("{}: not run: the time is over", case.name());
                continue;
            }
            let store = match (case.cache, &self.tmpfs) {
                (Cache::Tmpfs, Some(tmpfs)) => tmpfs,
                (Cache::Tmpfs, None) => return Err("no folder on a tmpfs was given".into()),
                _ => &self.store,
            };
            // Writing the data counts, and what a case leaves of its share goes to the later ones.
            let share_end = self.share_end(Instant::now(), self.cases.len() - index);
            let checkpoint = store.checkpoint(case)?;
            let measured = round::run_all(self, case, &checkpoint, share_end);
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

    /// When further rounds of a case would take the time of those after it, which are `cases` with
    /// itself.
    fn share_end(&self, now: Instant, cases: usize) -> Option<Instant> {
        let end = self.deadline?;
        let share = end.saturating_duration_since(now) / u32::try_from(cases).unwrap_or(u32::MAX);
        Some(now + share)
    }

    fn is_over(&self) -> bool {
        !self.has_time_for(Duration::ZERO)
    }

    pub(crate) fn has_time_for(&self, time: Duration) -> bool {
        self.deadline.is_none_or(|end| Instant::now() + time < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_share_the_time_that_is_left() {
        let now = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let until = |deadline| Bench {
            cases: Vec::new(),
            engines: Vec::new(),
            launch: &|_, _| Command::new("none"),
            store: Store::open(folder.path().to_owned(), 0).unwrap(),
            tmpfs: None,
            rounds: None,
            smoke: false,
            deadline,
        };
        let bench = until(Some(now + Duration::from_secs(600)));
        let seconds = |now, cases| (bench.share_end(now, cases).unwrap() - now).as_secs();
        assert_eq!(seconds(now, 6), 100);
        // The first took half of its share.
        assert_eq!(seconds(now + Duration::from_secs(50), 5), 110);
        assert_eq!(seconds(now + Duration::from_secs(700), 1), 0);
        assert_eq!(until(None).share_end(now, 6), None);
    }
}
