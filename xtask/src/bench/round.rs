//! All engines of a case, in turn.

use tensorlift_bench_protocol::{Outcome, Request};

use super::cache;
use super::child;
use super::data::Checkpoint;
use super::definition::Case;
use super::engine::Engine;
use super::results::{Measured, Row, Run};
use crate::Result;

/// Primed beyond the tensors, for headers and what is made of them.
const SPARE_BYTES: u64 = 64 << 20;

/// Runs every engine once in each round; each round begins with another one, so that none always
/// follows the same.
pub(super) fn run_all(
    case: &Case,
    checkpoint: &Checkpoint,
    engines: &[&Engine],
    rounds: usize,
    smoke: bool,
) -> Result<Measured> {
    let mut measured = Measured::new(case, checkpoint);
    let mut racers = Vec::new();
    for engine in engines {
        for setting in &engine.settings {
            racers.push((*engine, setting));
            measured.rows.push(Row::new(engine, setting));
        }
    }
    for round in 0..rounds {
        for turn in 0..racers.len() {
            let index = (round + turn) % racers.len();
            let row = &mut measured.rows[index];
            if row.failure.is_some() {
                continue;
            }
            if let Err(error) = cache::bring_to(case.cache, &checkpoint.files) {
                measured.not_run = Some(error.to_string());
                println!("{}: not run: {error}", case.name());
                return Ok(measured);
            }
            let (engine, setting) = racers[index];
            match run_one(engine, setting, checkpoint, smoke) {
                Ok(outcome) => row.runs.push(Run { round, outcome }),
                Err(failure) => {
                    eprintln!("{}: {} ({setting}): {failure}", case.name(), engine.name);
                    row.failure = Some(failure);
                }
            }
        }
    }
    Ok(measured)
}

fn run_one(
    engine: &Engine,
    setting: &str,
    checkpoint: &Checkpoint,
    smoke: bool,
) -> std::result::Result<Outcome, String> {
    let request = Request {
        engine: setting.to_owned(),
        path: checkpoint.path.clone(),
        prime_bytes: checkpoint.expected.bytes + SPARE_BYTES,
    };
    let mut command = engine.command(&request, smoke);
    child::run(&mut command, &checkpoint.expected)
}
