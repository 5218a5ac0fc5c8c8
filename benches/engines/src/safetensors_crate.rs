//! The `safetensors` crate in the two ways people use it.

use std::fs;

use safetensors::SafeTensors;
use tensorlift_bench_protocol::{Request, Result, measure};
use tensorlift_storage::{MapStorage, Storage};

/// The mapping of its documentation, each tensor copied out so that it is in memory.
pub(crate) fn map_and_copy(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
            for path in request.files()? {
                let map = MapStorage::open(path)?;
                let bytes = map.as_slice().ok_or("a mapping is a slice")?;
                for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
                    tensors.push((name.to_owned(), view.data().to_vec()));
                }
            }
            Ok(tensors)
        },
        |tensors, checksum, _| {
            for (name, bytes) in tensors {
                checksum.tensor(name, bytes);
            }
            Ok(())
        },
    )
}

/// The whole file into memory; tensors are views of it.
pub(crate) fn read(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let mut files = Vec::new();
            for path in request.files()? {
                let bytes = fs::read(path)?;
                // The views borrow, and their names are all that outlives this closure.
                let views = SafeTensors::deserialize(&bytes)?.len();
                files.push((bytes, views));
            }
            Ok(files)
        },
        |files, checksum, _| {
            for (bytes, views) in files {
                let tensors = SafeTensors::deserialize(bytes)?;
                assert_eq!(tensors.len(), *views);
                for (name, view) in tensors.iter() {
                    checksum.tensor(name, view.data());
                }
            }
            Ok(())
        },
    )
}
