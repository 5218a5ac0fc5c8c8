//! `cargo xtask bench`: the harness over the programs of this repository.

use std::io::{self, Write};
use std::process::Command;

use tensorlift_bench_harness::{
    Bench, Case, Definition, Engine, Program, Results, Size, Store, describe_machine,
};
use tensorlift_bench_protocol::Request;

use crate::command::{from_root, output_of, root};
use crate::programs::Built;
use crate::{Result, carry, flags, page, peers, python};

/// Where definitions, engines and results are.
const FOLDER: &str = "benches";

pub(crate) fn run(flags: &flags::Bench) -> Result<()> {
    if let Some(name) = &flags.render {
        let results = Results::open(&root().join(FOLDER).join("results").join(name))?;
        results.render()?;
        return show(name, &results);
    }
    if flags.device == flags::BenchDevice::Cuda {
        return carry::run(flags);
    }
    let cases = cases(flags)?;
    let engines = engines(flags)?;
    if flags.list {
        return match list(&cases, &engines, &mut io::stdout().lock()) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            listed => Ok(listed?),
        };
    }
    build(flags, &engines)?;

    let mut data = from_root(&flags.data);
    if flags.smoke {
        // Beside the real ones, which bear the same names.
        data.push("smoke");
    }
    let folder = root().join(FOLDER).join("results");
    let mut results = match &flags.save {
        Some(name) => Results::open_or_new(&folder.join(name))?,
        None if flags.smoke => Results::new(&folder.join("local/smoke")),
        None => Results::new(&folder.join("local/latest")),
    };
    results.machine = describe_machine();
    if let Some(version) = output_of("rustc", &["--version"]) {
        results.machine += &format!(", {}", version.trim());
    }
    let bench = Bench {
        cases,
        engines,
        launch: &|program, request| command(program, request, flags.smoke),
        store: Store::open(data, flags.disk_gb * 1_000_000_000)?,
        tmpfs: None,
        rounds: flags.rounds,
        smoke: flags.smoke,
        deadline: None,
    };
    let outcome = bench.run(&mut results);
    if !flags.smoke {
        results.render()?;
        if let Some(name) = &flags.save {
            show(name, &results)?;
        }
    }
    outcome
}

fn list(cases: &[Case], engines: &[Engine], out: &mut impl Write) -> io::Result<()> {
    for case in cases {
        writeln!(out, "{}  ({} rounds)", case.name(), case.rounds)?;
    }
    for engine in engines {
        writeln!(out, "{}: {}", engine.name, engine.about)?;
    }
    Ok(())
}

/// Brings the main rows of saved results into BENCHMARKS.md.
fn show(name: &str, results: &Results) -> Result<()> {
    let file = root().join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&file)?;
    Ok(std::fs::write(
        &file,
        page::insert(&text, name, &results.summary())?,
    )?)
}

/// The cases that the flags leave, in the order of the definitions.
fn cases(flags: &flags::Bench) -> Result<Vec<Case>> {
    let size = match flags.smoke {
        true => Size::Smoke,
        false => Size::Full,
    };
    let mut cases = Vec::new();
    for definition in Definition::read_all(&root().join(FOLDER).join("definitions"))? {
        cases.extend(definition.cases(size));
    }
    // What people ask first comes first.
    cases.sort_by_key(Case::is_of_series);
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
    let is_there = |part: &&String| engines.iter().any(|it| it.name.contains(part.as_str()));
    if let Some(name) = flags.engine.iter().find(|name| !is_there(name)) {
        return Err(format!(
            "no engine has {name:?} in its name; `--list` shows all, with --peers and --python those too"
        )
        .into());
    }
    Engine::select(&mut engines, &flags.engine);
    Ok(engines)
}

/// Builds the programs that the engines need.
fn build(flags: &flags::Bench, engines: &[Engine]) -> Result<()> {
    Built::Engines.build(!flags.smoke)?;
    if engines.iter().any(|it| it.program == Program::Peers) {
        Built::Peers.build(true)?;
    }
    if engines.iter().any(|it| it.program == Program::Python) {
        python::build_optimised()?;
    }
    Ok(())
}

/// The process that answers a request.
fn command(program: Program, request: &Request, smoke: bool) -> Command {
    let mut command = match program {
        Program::Engines => Built::Engines.command(!smoke),
        // Built once: they take minutes in any profile.
        Program::Peers => Built::Peers.command(true),
        Program::Python => {
            let mut python = Command::new(peers::python());
            python.arg(root().join("benches/peers/engines.py"));
            // Ours; the peers are installed.
            python.env("PYTHONPATH", root().join(python::SITE));
            python
        }
    };
    command.args(request.arguments());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_engines_that_there_are() {
        let folder = root().join(FOLDER);
        let engines = Engine::read_all(&folder.join("engines.toml")).unwrap();
        let mut names = Vec::new();
        for definition in Definition::read_all(&folder.join("definitions")).unwrap() {
            for case in definition.cases(Size::Full) {
                for name in case.named_engines() {
                    let known = engines.iter().any(|engine| engine.name == *name);
                    assert!(known, "{}: no engine {name:?}", case.name());
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
