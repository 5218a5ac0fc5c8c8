//! All engines of a case, in turn.

use tensorlift_bench_protocol::{Outcome, Request};

use crate::Bench;
use crate::cache;
use crate::child;
use crate::data::Checkpoint;
use crate::definition::Case;
use crate::engine::Engine;
use crate::results::{Measured, Row, Run};

/// Primed beyond the tensors, for headers and what is made of them.
const SPARE_BYTES: u64 = 64 << 20;

/// Runs every engine once in each round; each round begins with another one, so that none always
/// follows the same.
pub(crate) fn run_all(bench: &Bench<'_>, case: &Case, checkpoint: &Checkpoint) -> Measured {
    let mut measured = Measured::new(case, checkpoint);
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
            match run_one(bench, engine, setting, checkpoint) {
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

fn run_one(
    bench: &Bench<'_>,
    engine: &Engine,
    setting: &str,
    checkpoint: &Checkpoint,
) -> Result<Outcome, String> {
    let request = Request {
        engine: setting.to_owned(),
        path: checkpoint.path.clone(),
        prime_bytes: checkpoint.expected.bytes + SPARE_BYTES,
    };
    let mut command = (bench.launch)(engine.program, &request);
    child::run(&mut command, &checkpoint.expected, bench.deadline)
}
