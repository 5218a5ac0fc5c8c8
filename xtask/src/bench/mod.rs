//! `cargo xtask bench`: cases and engines are data, every run is a fresh process, every run's
//! bytes are checked.

mod cache;
mod child;
mod data;
mod definition;
mod engine;
mod machine;
mod plot;
mod recipe;
mod results;
mod round;
mod stats;
mod table;

use crate::command::{from_root, root};
use crate::programs::Built;
use crate::{Result, flags};
use data::Store;
use definition::{Case, Definition};
use engine::{Engine, Program};
use results::Results;

/// Where definitions, engines and results are.
const FOLDER: &str = "benches";

pub(crate) fn run(flags: &flags::Bench) -> Result<()> {
    if let Some(name) = &flags.render {
        return results::Results::open(name)?.render();
    }
    let cases = cases(flags)?;
    let engines = engines(flags)?;
    if flags.list {
        for case in &cases {
            println!("{}  ({} rounds)", case.name(), case.rounds);
        }
        for engine in &engines {
            println!("{}: {}", engine.name, engine.about);
        }
        return Ok(());
    }
    build(flags, &engines)?;

    let mut data = from_root(&flags.data);
    if flags.smoke {
        // Beside the real ones, which bear the same names.
        data.push("smoke");
    }
    let store = Store::open(data, flags.disk_gb * 1_000_000_000)?;
    let mut results = match &flags.save {
        Some(name) => Results::open_or_new(name)?,
        None => Results::new("local/latest"),
    };
    results.machine = machine::describe();
    let mut failures = Vec::new();
    for case in &cases {
        let checkpoint = store.checkpoint(case)?;
        let rounds = flags.rounds.unwrap_or(case.rounds);
        let engines: Vec<&Engine> = engines.iter().filter(|it| it.runs(case)).collect();
        let measured = round::run_all(case, &checkpoint, &engines, rounds, flags.smoke)?;
        if flags.smoke {
            println!(
                "{}: {} runs, all bytes right",
                case.name(),
                measured.good_runs()
            );
        } else {
            print!("{}", table::for_terminal(&measured));
        }
        failures.extend(measured.failures());
        results.put(measured);
        // After every case: a long run that is cut off keeps what it has.
        if !flags.smoke {
            results.write()?;
        }
    }
    if !flags.smoke {
        results.render()?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!(
        "engines of this repository failed:\n{}",
        failures.join("\n")
    )
    .into())
}

/// The cases that the flags leave, in the order of the definitions.
fn cases(flags: &flags::Bench) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for definition in Definition::read_all(&root().join(FOLDER).join("definitions"))? {
        cases.extend(definition.cases(flags.smoke));
    }
    // What people ask first comes first.
    cases.sort_by_key(|case| case.series);
    if let Some(filter) = &flags.filter {
        cases.retain(|case| case.name().contains(filter));
    }
    if cases.is_empty() {
        return Err("no case has such a name; `--list` shows all".into());
    }
    Ok(cases)
}

/// The engines that the flags leave.
fn engines(flags: &flags::Bench) -> Result<Vec<Engine>> {
    let mut engines = Engine::read_all(&root().join(FOLDER).join("engines.toml"))?;
    engines.retain(|engine| match engine.program {
        Program::Engines => true,
        Program::Peers => flags.peers,
        Program::Python => flags.python,
    });
    if let Some(part) = &flags.engine {
        engines.retain(|engine| engine.limit || engine.name.contains(part));
    }
    Ok(engines)
}

/// Builds the programs that the engines need.
fn build(flags: &flags::Bench, engines: &[Engine]) -> Result<()> {
    Built::Engines.build(!flags.smoke)?;
    if engines.iter().any(|it| it.program == Program::Peers) {
        Built::Peers.build(true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_engines_that_there_are() {
        let folder = root().join(FOLDER);
        let engines = Engine::read_all(&folder.join("engines.toml")).unwrap();
        let known = |name: &String| engines.iter().any(|engine| engine.name == *name);
        let mut names = Vec::new();
        for definition in Definition::read_all(&folder.join("definitions")).unwrap() {
            for case in definition.cases(false) {
                for name in case.engines.iter().chain(&case.without) {
                    assert!(known(name), "{}: no engine {name:?}", case.name());
                }
                let runs = |engine: &&Engine| engine.runs(&case);
                assert!(
                    engines.iter().filter(runs).any(|engine| engine.limit),
                    "{}",
                    case.name()
                );
                names.push(case.name());
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "two cases of one name");
    }
}
