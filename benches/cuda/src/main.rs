//! Measures loads to a GPU, on a machine without a Rust toolchain.
//!
//! The program carries its cases and engines; it writes the checkpoints itself, and is its own
//! measured process where the engine is tensorlift. Python peers are left out where they cannot be
//! imported.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use tensorlift::cuda::survey;
use tensorlift_bench_harness::{
    Bench, Case, Definition, Engine, Program, Result, Results, Size, Store, describe_machine,
};
use tensorlift_bench_protocol::{Request, main_with};

/// The first argument of a process that is measured.
const MEASURED: &str = "measured";

/// Measure loads to a GPU against peers and this machine's limits
#[derive(Parser)]
#[command(name = "bench-cuda")]
struct Flags {
    /// Run only cases whose name contains this, such as `llama-4b/torch` or `/tmpfs`
    #[arg(long)]
    filter: Option<String>,
    /// Run only the engine of this name, or those whose names contain it; the limits always run;
    /// may be given several times
    #[arg(long)]
    engine: Vec<String>,
    /// Rounds, in place of what the cases say
    #[arg(long)]
    rounds: Option<usize>,
    /// The size of large models in GiB, in place of 4
    #[arg(long)]
    gib: Option<f64>,
    /// Take at most this many minutes, including writing data: begin no run that is expected to
    /// take
    /// longer than what is left
    #[arg(long)]
    minutes: Option<f64>,
    /// A folder in memory
    #[arg(long, default_value = "/dev/shm/tensorlift-bench")]
    tmpfs: PathBuf,
    /// A folder on the disk to measure
    #[arg(long, default_value = "data")]
    disk: PathBuf,
    /// The most bytes in each of the two folders, in GB; the oldest checkpoints go first
    #[arg(long, default_value_t = 40)]
    budget_gb: u64,
    /// Results, without their extension; earlier ones of other cases are kept
    #[arg(long, default_value = "results/cuda")]
    out: PathBuf,
    /// The Python that has the peers
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Leave the Python peers out
    #[arg(long)]
    no_peers: bool,
    /// Tiny sizes, one round, no peers: checks that every engine of ours loads the right bytes,
    /// and measures nothing
    #[arg(long)]
    smoke: bool,
    /// List the cases and engines, and stop
    #[arg(long)]
    list: bool,
    /// Name the machine and its GPUs, and stop; without a GPU, fail
    #[arg(long)]
    gpus: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == MEASURED) {
        let own = std::iter::once(OsString::from("bench-cuda"));
        return main_with(own.chain(arguments), tensorlift_bench_engines::run);
    }
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-cuda: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<()> {
    let minutes = |minutes: f64| Duration::try_from_secs_f64(minutes * 60.0);
    let minutes = flags.minutes.map(minutes).transpose()?;
    let deadline = minutes.map(|minutes| Instant::now() + minutes);
    let (cases, engines) = (cases(flags)?, engines(flags)?);
    if flags.list {
        cases.iter().for_each(|case| println!("{}", case.name()));
        for engine in &engines {
            println!("{}: {}", engine.name, engine.about);
        }
        return Ok(());
    }
    let machine = machine()?;
    println!("{machine}");
    if flags.gpus {
        return Ok(());
    }
    let budget = flags.budget_gb * 1_000_000_000;
    let mut results = Results::open_or_new(&flags.out)?;
    results.machine = machine;
    let program = std::env::current_exe()?;
    let scripts = program.parent().unwrap_or(Path::new(".")).to_owned();
    let bench = Bench {
        cases,
        engines,
        launch: &|who, request| command(who, request, &program, &flags.python, &scripts),
        store: Store::open(flags.disk.clone(), budget)?,
        tmpfs: Some(Store::open(flags.tmpfs.clone(), budget)?),
        rounds: flags.rounds,
        smoke: flags.smoke,
        deadline,
    };
    let outcome = bench.run(&mut results);
    results.render()?;
    outcome
}

fn cases(flags: &Flags) -> Result<Vec<Case>> {
    let size = match flags.gib {
        _ if flags.smoke => Size::Smoke,
        Some(gibibytes) => Size::Gibibytes(gibibytes),
        None => Size::Full,
    };
    let mut cases = Definition::parse(include_str!("../definitions.toml"))?.cases(size);
    if let Some(filter) = &flags.filter {
        cases.retain(|case| case.name().contains(filter));
    }
    match cases.is_empty() {
        true => Err("no case has such a name; `--list` shows all".into()),
        false => Ok(cases),
    }
}

fn engines(flags: &Flags) -> Result<Vec<Engine>> {
    let mut engines = Engine::parse(include_str!("../engines.toml"))?;
    if flags.smoke || flags.no_peers {
        engines.retain(|engine| engine.program != Program::Python);
    }
    Engine::select(&mut engines, &flags.engine);
    Ok(engines)
}

/// The machine and its GPUs.
fn machine() -> Result<String> {
    let survey = survey()?;
    let version = survey.driver_version;
    let mut machine = describe_machine();
    for device in &survey.devices {
        machine += &format!(", {}", device.name);
    }
    machine += &format!(", CUDA {}.{}", version / 1000, version % 1000 / 10);
    Ok(machine)
}

/// The process that answers a request: this program again, or the peers' script beside it.
fn command(
    who: Program,
    request: &Request,
    program: &Path,
    python: &Path,
    scripts: &Path,
) -> Command {
    let mut command = match who {
        Program::Python => {
            let mut command = Command::new(python);
            command.arg(scripts.join("engines_cuda.py"));
            command
        }
        Program::Engines | Program::Peers => {
            let mut command = Command::new(program);
            command.arg(MEASURED);
            command
        }
    };
    command.args(request.arguments());
    command
}
