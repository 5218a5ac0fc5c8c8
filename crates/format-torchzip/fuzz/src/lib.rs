//! What every fuzz target of this crate asks of the reader, whatever the bytes are.
//!
//! - Reading and giving out the state take no more memory than the file's size and 64 MiB.
//! - Every way to read the same bytes says the same: from storage that returns a byte at a time,
//!   under the strict policy, with checksums, under smaller limits.
//! - What is accepted keeps the promises of a catalog, and loads to the bytes that a naive twin
//!   of the loader finds.

pub mod framing;
mod loads;
mod memory;
mod promises;
mod routes;
mod twin;

use tensorlift_format_torchzip::{Format, ReadOptions, Result, TorchFile, detect, read};
use tensorlift_storage::{MemoryStorage, Storage};

pub use memory::peak_bytes;

/// What following shared references may cost here: a small file can spend all of the default, so
/// that one input would take as long as thousands of others.
const EXPANDED_NODES: usize = 5_000;

/// Whether the reader takes bytes for one of these formats.
pub fn is_any(bytes: &[u8], formats: &[Format]) -> bool {
    let prefix = &bytes[..bytes.len().min(1024)];
    detect(prefix).is_some_and(|format| formats.contains(&format))
}

/// Reads bytes in every way; gives what the plain one made of them.
///
/// # Panics
/// If anything said above does not hold.
pub fn check(bytes: &[u8]) -> Result<TorchFile> {
    let storage = MemoryStorage::new(bytes.to_vec());
    let file = read_bounded(&storage, &options());
    routes::agree(&storage, &file);
    if let Ok(file) = &file {
        promises::hold(file, storage.len());
        loads::as_the_twin(file, bytes);
    }
    file
}

fn options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.limits.expanded_nodes = EXPANDED_NODES;
    options
}

fn read_bounded(storage: &dyn Storage, options: &ReadOptions) -> Result<TorchFile> {
    memory::bounded(storage.len(), || read(storage, options))
}
