//! Whole checkpoints, through the facade.

mod assembled;
mod bundle;
mod committed;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda;
mod faults;
#[cfg(target_os = "linux")]
mod left_behind;
mod memory;
mod peers;
mod pool;
#[cfg(target_os = "linux")]
mod replaced;
mod round_trip;
mod shares;
#[cfg(feature = "signatures")]
mod signature;
mod skeleton;
mod state;
mod trust;

use sha2::{Digest, Sha256};
use tensorlift::Tensor;

/// The SHA-256 of a tensor's row-major bytes, in hexadecimal.
fn sha256(tensor: &Tensor) -> String {
    let contiguous = tensor.to_contiguous().unwrap();
    let digest = Sha256::digest(contiguous.as_bytes().unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
