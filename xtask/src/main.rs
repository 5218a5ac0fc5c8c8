//! Tasks for people who work on tensorlift: `cargo xtask --help` lists them.

mod bench;
mod carry;
mod check;
mod command;
mod conform;
mod corpus;
mod fixtures;
mod flags;
mod page;
mod peers;
mod programs;
mod public_api;
mod python;
mod real_files;
mod release;
mod schemas;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use tensorlift_bench_harness::watched;

/// What goes wrong ends the task, and its text is shown.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match flags::Xtask::parse().task {
        flags::Task::Fixtures(flags) => fixtures::run(&flags),
        flags::Task::Bench(flags) => bench::run(&flags),
        flags::Task::Peers => peers::run(),
        flags::Task::Conform(flags) => conform::run(&flags),
        flags::Task::Corpus(flags) => corpus::run(&flags),
        flags::Task::RealFiles(flags) => real_files::run(&flags),
        flags::Task::Wheel(flags) => python::wheel(&flags),
        flags::Task::PythonTests(flags) => python::tests(&flags),
        flags::Task::PythonBench(flags) => python::bench(&flags),
        flags::Task::Check(flags) => check::run(&flags),
        flags::Task::PublicApi(flags) => public_api::run(flags.bless),
        flags::Task::Schemas(flags) => schemas::run(flags.bless),
        flags::Task::Release(flags) => release::run(&flags),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
