//! One measured process: loads one checkpoint with one engine, once.
//!
//! `cargo xtask bench` starts it; `benches/engines.toml` says which engine is which.

mod facade;
mod naive;
mod raw;
mod safetensors_crate;

use std::process::ExitCode;

use tensorlift::{LoadOptions, Mode, Reader};
use tensorlift_bench_protocol::{Request, Result, main_of};

fn main() -> ExitCode {
    main_of(run)
}

fn run(request: &Request) -> Result<()> {
    match request.engine.as_str() {
        "tensorlift" => facade::run(request, LoadOptions::default()),
        "tensorlift-map" => facade::run(request, LoadOptions::default().mode(Mode::Map)),
        "tensorlift-buffered" => facade::by(request, Reader::Buffered),
        "tensorlift-direct" => facade::by(request, Reader::Direct),
        "tensorlift-uring" => facade::by(request, Reader::Uring),
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
