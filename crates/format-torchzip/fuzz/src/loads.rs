//! What is accepted loads, or says why not; and what loads is what the file holds.

use std::sync::Arc;

use tensorlift_device::{Device, HostDevice};
use tensorlift_format_torchzip::TorchFile;
use tensorlift_loader::{Control, LoadOptions, LoadReport, Loaded, Shard, Tensor, execute, plan};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Catalog, Error};

use crate::twin;

/// What a load may take here: enough for every seed.
const MEMORY_BYTES: u64 = 4 << 20;

pub(crate) fn as_the_twin(file: &TorchFile, bytes: &[u8]) {
    let catalog = Arc::new(file.catalog().clone());
    let plainly = load(&catalog, bytes, HostDevice::new(), LoadOptions::default());
    // Other merges, chunks and places.
    let apart = LoadOptions::default().merge_gap_bytes(0).chunk_bytes(4096);
    let apart = load(
        &catalog,
        bytes,
        HostDevice::new().with_tensor_alignment(64),
        apart,
    );
    let loaded = plainly.as_ref().or(apart.as_ref()).ok();
    for tensor in loaded.into_iter().flat_map(|loaded| loaded.tensors()) {
        assert_eq!(
            tensor.as_bytes().map(<[u8]>::len).ok(),
            Some(tensor.span_bytes())
        );
        let expected = twin::bytes(bytes, &catalog, tensor.entry());
        if let Some((expected, found)) = expected.zip(row_major(tensor)) {
            assert_eq!(expected, found, "{:?}", tensor.entry());
        }
    }
    if let (Ok(plainly), Ok(apart)) = (&plainly, &apart) {
        for (one, other) in plainly.tensors().iter().zip(apart.tensors()) {
            assert_eq!(
                one.as_bytes().ok(),
                other.as_bytes().ok(),
                "{:?}",
                one.entry()
            );
        }
    }
}

fn load(
    catalog: &Arc<Catalog>,
    bytes: &[u8],
    host: HostDevice,
    options: LoadOptions,
) -> Result<Loaded, Error> {
    let options = options.memory_bytes(MEMORY_BYTES).read_threads(1);
    let host: Arc<dyn Device> = Arc::new(host);
    let plan = plan(catalog, |_| Some(0), &[host.rules()], &options)?;
    let shard = Shard::new("input", Arc::new(MemoryStorage::new(bytes.to_vec())));
    let control = Control::default();
    let filled = execute(&plan, catalog, &[shard], &[host], &options, &control)?;
    Ok(Loaded::new(
        Arc::clone(catalog),
        plan,
        filled,
        LoadReport::default(),
    ))
}

/// The elements without gaps, where there are not too many and none is smaller than a byte.
fn row_major(tensor: &Tensor) -> Option<Vec<u8>> {
    if tensor.entry().byte_len() > twin::MAX_BYTES {
        return None;
    }
    let dense = tensor.to_contiguous().ok()?;
    Some(dense.as_bytes().expect("host memory").to_vec())
}
