//! The naive twin of a load: a tensor's bytes, element by element, straight from the description.

use tensorlift_fixture_kit::oracle;
use tensorlift_tensor_meta::{Catalog, Entry, Source};

/// The largest tensor that is worth the time, in bytes.
pub(crate) const MAX_BYTES: u64 = 64 << 10;

/// The row-major little-endian bytes of an entry; `None` for those without bytes, compressed or
/// large ones, and those whose elements are smaller than a byte.
pub(crate) fn bytes(file: &[u8], catalog: &Catalog, entry: &Entry) -> Option<Vec<u8>> {
    entry.dtype().byte_len()?;
    match catalog.record(entry).source {
        _ if entry.byte_len() > MAX_BYTES => None,
        Source::Deflated { .. } => None,
        _ => oracle::tensor(file, catalog, entry),
    }
}
