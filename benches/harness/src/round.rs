//! All engines of a case, in turn.

use std::time::{Duration, Instant};

use tensorlift_bench_protocol::{Outcome, Request};
use tensorlift_storage::os;

use crate::Bench;
use crate::cache;
use crate::child;
use crate::data::Checkpoint;
use crate::definition::Case;
use crate::engine::Engine;
use crate::results::{Measured, Row, Run};

/// Primed beyond the tensors, for headers and what is made of them.
const SPARE_BYTES: u64 = 64 << 20;
/// Never primed, so that nothing has to make room.
const LEFT_BYTES: u64 = 2 << 30;

/// What the name of a setting ends with where its memory is watched and its time is not.
const MEMORY: &str = "+memory";

/// Runs every engine once in each round.
///
/// Each round begins with another one, so that none always follows the same; with a deadline, all
/// rounds have the order in which the engines are listed, so that a round that is cut off has what
/// matters most, and there are as many as fit before `share_end`, the first one aside.
pub(crate) fn run_all(
    bench: &Bench<'_>,
    case: &Case,
    checkpoint: &Checkpoint,
    share_end: Option<Instant>,
) -> Measured {
    let mut measured = Measured::new(case, checkpoint);
    let prime_bytes = prime_bytes(checkpoint, os::available_memory());
    let mut racers = Vec::new();
    for engine in bench.engines.iter().filter(|engine| engine.runs(case)) {
        for setting in &engine.settings {
            racers.push((engine, setting));
            measured.rows.push(Row::new(engine, setting));
        }
    }
    // The longest that each has taken, the process as a whole.
    let mut took = vec![Duration::ZERO; racers.len()];
    let mut round_took = Duration::ZERO;
    for round in 0..bench.rounds.unwrap_or(case.rounds) {
        let round_begun = Instant::now();
        if round > 0 && share_end.is_some_and(|end| round_begun + round_took > end) {
            break;
        }
        for turn in 0..racers.len() {
            let index = match bench.deadline {
                Some(_) => turn,
                None => (round + turn) % racers.len(),
            };
            let row = &mut measured.rows[index];
            if row.failure.is_some() || !bench.has_time_for(expected(&took, index)) {
                continue;
            }
            let begun = Instant::now();
            if let Err(error) = cache::bring_to(case.cache, &checkpoint.files) {
                measured.not_run = Some(error.to_string());
                println!("{}: not run: {error}", case.name());
                return measured;
            }
            let (engine, setting) = racers[index];
            match run_one(bench, engine, setting, checkpoint, prime_bytes) {
                Ok(outcome) => row.runs.push(Run { round, outcome }),
                Err(failure) => {
                    eprintln!("{}: {} ({setting}): {failure}", case.name(), engine.name);
                    row.failure = Some(failure);
                }
            }
            took[index] = took[index].max(begun.elapsed());
        }
        round_took = round_begun.elapsed();
    }
    if measured.good_runs() == 0 && measured.rows.iter().all(|row| row.failure.is_none()) {
        measured.not_run = Some("the time was over before the first run".into());
    }
    for (index, (engine, setting)) in racers.iter().enumerate() {
        let row = &mut measured.rows[index];
        let is_due = engine.watched && row.failure.is_none() && !row.runs.is_empty();
        if is_due && bench.has_time_for(took[index]) {
            let setting = format!("{setting}{MEMORY}");
            match run_one(bench, engine, &setting, checkpoint, prime_bytes) {
                Ok(outcome) => row.device_growth = outcome.device_growth,
                Err(failure) => eprintln!("{}: {setting}: {failure}", case.name()),
            }
        }
    }
    measured
}

/// How long the next run of an engine may take: as long as its longest, or, before its first, as
/// the longest of any.
fn expected(took: &[Duration], index: usize) -> Duration {
    match took[index] {
        Duration::ZERO => took.iter().copied().max().unwrap_or_default(),
        longest => longest,
    }
}

/// What each engine primes: the tensors twice, since many hold the file and copies of it, but no
/// more than leaves the files in the page cache.
fn prime_bytes(checkpoint: &Checkpoint, available: Option<u64>) -> u64 {
    let lengths = checkpoint
        .files
        .iter()
        .filter_map(|file| file.metadata().ok());
    let files: u64 = lengths.map(|metadata| metadata.len()).sum();
    let wanted = 2 * checkpoint.expected.bytes + SPARE_BYTES;
    available.map_or(wanted, |bytes| {
        wanted.min(bytes.saturating_sub(files + LEFT_BYTES))
    })
}

fn run_one(
    bench: &Bench<'_>,
    engine: &Engine,
    setting: &str,
    checkpoint: &Checkpoint,
    prime_bytes: u64,
) -> Result<Outcome, String> {
    let request = Request {
        engine: setting.to_owned(),
        path: checkpoint.path.clone(),
        prime_bytes,
    };
    let mut command = (bench.launch)(engine.program, &request);
    child::run(&mut command, &checkpoint.expected)
}

#[cfg(test)]
mod tests {
    use tensorlift_bench_protocol::Checksum;

    use super::*;

    #[test]
    fn a_run_is_expected_to_take_as_long_as_the_longest() {
        let seconds = |all: [u64; 3]| all.map(Duration::from_secs);
        assert_eq!(expected(&seconds([3, 0, 5]), 0).as_secs(), 3);
        assert_eq!(expected(&seconds([3, 0, 5]), 1).as_secs(), 5);
        assert_eq!(expected(&seconds([0, 0, 0]), 1).as_secs(), 0);
    }

    #[test]
    fn twice_the_tensors_are_primed_where_the_page_cache_leaves_room() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let expected = Checksum {
            bytes: 1 << 30,
            ..Checksum::default()
        };
        let checkpoint = Checkpoint {
            path: file.path().to_owned(),
            files: vec![file.path().to_owned()],
            expected,
        };
        let primed = |available| prime_bytes(&checkpoint, available);
        let all = (2 << 30) + SPARE_BYTES;
        assert_eq!(primed(None), all);
        assert_eq!(primed(Some(16 << 30)), all);
        assert_eq!(primed(Some(4 << 30)), 1 << 30);
        assert_eq!(primed(Some(1 << 30)), 0);
    }
}
