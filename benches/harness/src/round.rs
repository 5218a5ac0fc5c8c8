//! All engines of a case, in turn.

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

/// Runs every engine once in each round; each round begins with another one, so that none always
/// follows the same.
pub(crate) fn run_all(bench: &Bench<'_>, case: &Case, checkpoint: &Checkpoint) -> Measured {
    let mut measured = Measured::new(case, checkpoint);
    let prime_bytes = prime_bytes(checkpoint, os::available_memory());
    let mut racers = Vec::new();
    for engine in bench.engines.iter().filter(|engine| engine.runs(case)) {
        for setting in &engine.settings {
            racers.push((engine, setting));
            measured.rows.push(Row::new(engine, setting));
        }
    }
    for round in 0..bench.rounds.unwrap_or(case.rounds) {
        for turn in 0..racers.len() {
            if bench.is_over() {
                println!("{}: the time is over in round {}", case.name(), round + 1);
                measured.keep_rounds_before(round);
                return measured;
            }
            let index = (round + turn) % racers.len();
            let row = &mut measured.rows[index];
            if row.failure.is_some() {
                continue;
            }
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
        }
    }
    measured
}

/// What each engine primes: the tensors twice, since many hold the file and copies of it, but no
/// more than leaves the files in the page cache.
fn prime_bytes(checkpoint: &Checkpoint, available: Option<u64>) -> u64 {
    let lengths = checkpoint
        .files
        .iter()
        .filter_map(|file| file.metadata().ok());
    let files: u64 = lengths.map(|metadata| metadata.len()).sum();
    let wish = 2 * checkpoint.expected.bytes + SPARE_BYTES;
    available.map_or(wish, |bytes| {
        wish.min(bytes.saturating_sub(files + LEFT_BYTES))
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
    child::run(&mut command, &checkpoint.expected, bench.deadline)
}

#[cfg(test)]
mod tests {
    use tensorlift_bench_protocol::Checksum;

    use super::*;

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
