//! Inspect, plan and load model checkpoints from the command line.

mod batches;
mod bench;
mod convert;
mod device;
mod device_map;
mod diff;
mod doctor;
mod failure;
mod inspect;
mod interrupt;
mod load;
mod log;
mod manifest;
mod plan;
mod progress;
mod schema;
mod settings;
mod state;
mod table;
mod target;
mod trust;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::failure::Failure;
use self::target::Target;

/// Inspects, plans and loads model checkpoints: safetensors and PyTorch files.
#[derive(Parser)]
#[command(name = "tensorlift", version, propagate_version = true)]
#[command(after_help = failure::statuses())]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: log::LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// List the tensors: name, dtype, shape, bytes, file
    Inspect(inspect::Inspect),
    /// Load every tensor into memory and report what it took
    Load(load::Load),
    /// Show what would be read, and into which memory, without reading it
    Plan(plan::ShowPlan),
    /// Write any readable checkpoint as safetensors, or as a PyTorch file
    Convert(convert::Convert),
    /// Compare files with the hashes that a manifest, a list of sums, a signature or the Hugging
    /// Face cache gives
    Verify(verify::VerifyFiles),
    /// Write the hashes of a checkpoint's files and tensors as JSON
    Manifest(manifest::WriteManifest),
    /// Tell in what two checkpoints differ; status 1 if they do
    Diff(diff::Diff),
    /// Measure loads of a checkpoint on this machine: each reader, numbers of threads, sizes of reads
    /// and the machine's limit; say which setting is best, and how to set it
    Bench(bench::Bench),
    /// Write a script that completes commands and options in a shell
    Completions(Completions),
    /// Print the JSON schema of what a command prints with --json, or list all of them
    Schema(schema::ShowSchema),
    /// Check what this machine offers for loads, with remedies for what is missing
    Doctor(doctor::Doctor),
}

#[derive(Args)]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        // Into memory first: a reader that has seen enough is no failure.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tensorlift", &mut script);
        Ok(out.write_all(&script)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(found) = cli.log.start() {
        let error = clap::error::ErrorKind::InvalidValue;
        Cli::command().error(error, found).exit();
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (json, result) = match &cli.command {
        Command::Inspect(inspect) => (inspect.json, inspect.run(&mut out)),
        Command::Load(load) => (load.json, load.run(&mut out)),
        Command::Plan(plan) => (plan.json, plan.run(&mut out)),
        Command::Convert(convert) => (convert.json, convert.run(&mut out)),
        Command::Verify(verify) => (verify.json, verify.run(&mut out)),
        Command::Manifest(manifest) => (false, manifest.run(&mut out)),
        Command::Diff(diff) => (diff.json, diff.run(&mut out)),
        Command::Bench(bench) => (bench.json, bench.run(&mut out)),
        Command::Completions(completions) => (false, completions.run(&mut out)),
        Command::Schema(schema) => (false, schema.run(&mut out)),
        Command::Doctor(doctor) => (doctor.json, doctor.run(&mut out)),
    };
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json, &mut out),
    }
}
