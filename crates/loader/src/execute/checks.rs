//! What looks at the bytes of a chunk as they are in the file, before anything changes them.

use tensorlift_tensor_meta::Extent;

use super::failure::Failure;
use super::hash::Hashes;
use super::verify::Sums;

/// The checks of one chunk.
#[derive(Clone, Copy)]
pub(super) struct Checks<'t> {
    pub(super) sums: Option<&'t Sums<'t>>,
    /// With the bytes of the chunk that are hashed.
    pub(super) hashes: Option<(&'t Hashes<'t>, Extent)>,
}

impl Checks<'_> {
    /// Whether nobody looks at the bytes, so that they need not pass through the host.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_none() && self.hashes.is_none()
    }

    /// Looks at the bytes of a chunk that was read.
    pub(super) fn see(&self, extent: Extent, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(sums) = self.sums {
            sums.add(extent, bytes);
        }
        if let Some((hashes, own)) = self.hashes {
            let from = (own.offset - extent.offset) as usize;
            hashes.add(own, &bytes[from..from + own.len as usize])?;
        }
        Ok(())
    }

    /// Looks at a record that was inflated.
    pub(super) fn see_inflated(&self, extent: Extent, record: &[u8]) {
        if let Some(sums) = self.sums {
            sums.add_inflated(extent, record);
        }
    }
}
