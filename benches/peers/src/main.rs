//! One measured process: loads one checkpoint with one peer, once.
//!
//! `cargo xtask bench --peers` builds and starts it.

mod anamnesis;
mod builder;
mod candle;
mod reader;

use std::process::ExitCode;

use tensorlift_bench_protocol::{Request, Result, main_of};

fn main() -> ExitCode {
    main_of(run)
}

fn run(request: &Request) -> Result<()> {
    match request.engine.as_str() {
        "candle-load" => candle::load(request),
        "candle-mapped" => candle::mapped(request),
        "candle-builder" => builder::mapped(request, None),
        "candle-builder-f32" => builder::mapped(request, Some(candle_core::DType::F32)),
        "candle-builder-pth" => builder::pth(request),
        "candle-pickle" => candle::pickle(request),
        "anamnesis-pth" => anamnesis::pth(request),
        "anamnesis-safetensors" => anamnesis::safetensors(request),
        "pytorch-reader" => reader::run(request),
        other => Err(format!("no engine {other:?}").into()),
    }
}
