//! Inspect, plan and load model checkpoints from the command line.

mod batches;
mod convert;
mod device;
mod device_map;
mod doctor;
mod failure;
mod inspect;
mod load;
mod log;
mod plan;
mod settings;
mod state;
mod table;
mod target;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::target::Target;

/// Inspects, plans and loads model checkpoints: safetensors and PyTorch files.
#[derive(Parser)]
#[command(name = "tensorlift", version, propagate_version = true)]
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
    /// Check what this machine offers for loads, with remedies for what is missing
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.log.start();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (json, result) = match &cli.command {
        Command::Inspect(inspect) => (inspect.json, inspect.run(&mut out)),
        Command::Load(load) => (load.json, load.run(&mut out)),
        Command::Plan(plan) => (plan.json, plan.run(&mut out)),
        Command::Convert(convert) => (convert.json, convert.run(&mut out)),
        Command::Doctor(doctor) => (doctor.json, doctor.run(&mut out)),
    };
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json, &mut out),
    }
}
