//! The plainest reader: the whole file into memory, then each tensor into memory of its own.

use std::fs;

use tensorlift::Checkpoint;
use tensorlift_bench_protocol::{Request, Result, measure};

pub(crate) fn run(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
            for path in request.files()? {
                let bytes = fs::read(&path)?;
                // The listing is tensorlift's own: only the reading is naive.
                let listing = Checkpoint::open(&path)?;
                for entry in listing.catalog().entries() {
                    let extent = entry.extent();
                    let range = extent.offset as usize..extent.end() as usize;
                    tensors.push((entry.name().to_owned(), bytes[range].to_vec()));
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
