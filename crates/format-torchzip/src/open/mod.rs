//! From a storage to a catalog and a state, for every format.

mod archive;
mod file;
mod reader;

use tensorlift_storage::{Storage, StorageExt};

use crate::container::detect::detect;
use crate::error::{Error, Result};
use crate::pickle::DescriptionBudget;

use reader::TorchReader;

pub use file::{Format, ReadOptions, TorchFile};

/// Bytes that a file's format is recognised by.
const PREFIX_BYTES: u64 = 1024;

/// Reads the description of a PyTorch file; the bytes of its tensors stay where they are.
///
/// A file without tensors is accepted.
///
/// # Errors
/// If the file is something else, breaks its format, contradicts itself or crosses a limit.
pub fn read(storage: &dyn Storage, options: &ReadOptions) -> Result<TorchFile> {
    let mut prefix = vec![0; storage.len().min(PREFIX_BYTES) as usize];
    storage
        .read_exact_at(0, &mut prefix)
        .map_err(|source| Error::io("the first bytes", source))?;
    let mut reader = TorchReader {
        storage,
        options,
        budget: DescriptionBudget::for_file(storage.len(), options.limits.description_bytes),
        unclaimed: Vec::new(),
    };
    match detect(&prefix) {
        Some(Format::Zip | Format::TorchScript) => reader.zip(),
        Some(Format::Legacy | Format::Pickle) => reader.pickles(),
        Some(Format::Tar) => reader.tar(),
        None => Err(Error::NotTorch),
    }
}
