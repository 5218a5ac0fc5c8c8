//! A tensor's bytes by the plainest way, straight from the description.

use tensorlift_fixture_kit::oracle;
use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{Catalog, Entry};

/// The row-major little-endian bytes of an entry, or `None` for meta tensors.
pub(crate) fn resolve(storage: &dyn Storage, catalog: &Catalog, entry: &Entry) -> Option<Vec<u8>> {
    let mut file = vec![0; storage.len() as usize];
    storage.read_exact_at(0, &mut file).unwrap();
    oracle::tensor(&file, catalog, entry)
}
