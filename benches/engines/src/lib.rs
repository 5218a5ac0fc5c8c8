//! One measured process: loads one checkpoint with one engine, once.
//!
//! `benches/engines.toml` says which engine is which, and `benches/cuda/engines.toml` which one
//! loads to a GPU.

#[cfg(feature = "cuda")]
mod cuda;
mod facade;
mod hashed;
mod model;
mod naive;
mod raw;
mod safetensors_crate;
mod several;

use tensorlift::{HashAlgorithm, LoadOptions, Mode, Reader};
use tensorlift_bench_protocol::{Request, Result};

/// Loads as the request says, and prints the outcome.
///
/// # Errors
/// If there is no such engine, or it failed.
pub fn run(request: &Request) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some(setting) = cuda::Setting::parse(&request.engine) {
        return cuda::run(request, setting);
    }
    #[cfg(feature = "cuda")]
    if let Some(name) = request.engine.strip_suffix("+memory")
        && let Some(setting) = cuda::Setting::parse(name)
    {
        return cuda::watch(request, setting);
    }
    match request.engine.as_str() {
        "tensorlift" => facade::run(request, LoadOptions::default()),
        "tensorlift-map" => facade::run(request, LoadOptions::default().mode(Mode::Map)),
        "tensorlift-buffered" => facade::by(request, Reader::Buffered),
        "tensorlift-direct" => facade::by(request, Reader::Direct),
        "tensorlift-uring" => facade::by(request, Reader::Uring),
        #[cfg(feature = "cuda")]
        "pinned-copy" => cuda::pinned_copy(request),
        #[cfg(feature = "cuda")]
        "pipeline" => cuda::pipeline(request),
        #[cfg(feature = "cuda")]
        "driver-start" => cuda::start_alone(request),
        "tensorlift-blake3" => hashed::load(request, HashAlgorithm::Blake3),
        "tensorlift-sha256" => hashed::load(request, HashAlgorithm::Sha256),
        "openssl" => hashed::openssl(request),
        "tensorlift-filled" => model::filled(request),
        "tensorlift-filled-f32" => model::filled_as_f32(request),
        "tensorlift-in-turn" => several::in_turn(request),
        "tensorlift-at-once" => several::at_once(request),
        "tensorlift-again" => several::again(request),
        "naive" => naive::run(request),
        "safetensors-map-copy" => safetensors_crate::map_and_copy(request),
        "safetensors-read" => safetensors_crate::read(request),
        "mapping" => raw::mapping(request),
        other => match raw::parse(other) {
            Some(reads) => raw::run(request, reads),
            None => Err(format!("no engine {other:?}").into()),
        },
    }
}
