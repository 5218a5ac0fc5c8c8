//! One measured process: loads one checkpoint with one engine, once.
//!
//! `cargo xtask bench` starts it; `benches/engines.toml` says which engine is which.

mod facade;
mod naive;
mod raw;
mod safetensors_crate;

use std::process::ExitCode;

use tensorlift::Mode;
use tensorlift_bench_protocol::{Request, Result};

fn main() -> ExitCode {
    match Request::from_arguments(std::env::args_os()).and_then(|request| run(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: &Request) -> Result<()> {
    match request.engine.as_str() {
        "tensorlift" => facade::run(request, Mode::Copy),
        "tensorlift-map" => facade::run(request, Mode::Map),
        "naive" => naive::run(request),
        "safetensors-map-copy" => safetensors_crate::map_and_copy(request),
        "safetensors-read" => safetensors_crate::read(request),
        "mapping" => raw::mapping(request),
        other => match raw::Setting::parse(other) {
            Some(setting) => raw::run(request, setting),
            None => Err(format!("no engine {other:?}").into()),
        },
    }
}
