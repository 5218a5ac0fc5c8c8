//! The tools of a thread that runs chunks, and how it reads stored bytes.

use std::io;

use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::Extent;

use super::checks::Checks;
use super::chunk::PullOutcome;
use super::failure::Failure;
use super::lane::HeldLane;
use super::scratch::Scratch;

/// Direct reads land in place where file offset and address agree modulo this many bytes.
const PAGE_BYTES: u64 = 4096;

/// The tools of a thread that runs chunks.
pub(super) struct Tools<'t, 'a> {
    /// The storage of the chunk's shard, if it has one.
    pub(super) storage: Option<&'t dyn Storage>,
    pub(super) checks: Checks<'t>,
    pub(super) scratch: &'t mut Scratch,
    pub(super) lane: &'t mut HeldLane<'a>,
}

/// How a chunk was read.
pub(super) struct Ran {
    pub(super) pull: PullOutcome,
    /// Whether its bytes went through memory beside their target.
    pub(super) bounced: bool,
}

impl Ran {
    pub(super) const IN_PLACE: Self = Self {
        pull: PullOutcome::NotAsked,
        bounced: false,
    };
    pub(super) const BOUNCED: Self = Self {
        bounced: true,
        ..Self::IN_PLACE
    };
}

/// Where stored bytes are read from, and what checks them.
pub(super) struct StoredSource<'t> {
    pub(super) storage: &'t dyn Storage,
    checks: Checks<'t>,
}

impl<'t> Tools<'t, '_> {
    pub(super) fn storage(&self) -> Result<&'t dyn Storage, Failure> {
        // Every extent has a shard.
        self.storage
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    pub(super) fn source(&self) -> Result<StoredSource<'t>, Failure> {
        Ok(StoredSource {
            storage: self.storage()?,
            checks: self.checks,
        })
    }

    /// Reads into host memory; whether the bytes had to go through scratch memory.
    pub(super) fn read_into(&mut self, extent: Extent, memory: &mut [u8]) -> Result<bool, Failure> {
        let source = self.source()?;
        if !source.storage.reader().bypasses_page_cache() || is_congruent(extent.offset, memory) {
            source.read(extent, memory)?;
            return Ok(false);
        }
        memory.copy_from_slice(source.read_scratch(extent, self.scratch)?);
        Ok(true)
    }
}

impl StoredSource<'_> {
    /// Reads straight into memory.
    pub(super) fn read(&self, extent: Extent, memory: &mut [u8]) -> Result<(), Failure> {
        self.storage.read_exact_at(extent.offset, memory)?;
        self.checks.see(extent, memory)
    }

    /// Reads into scratch memory, placed so that direct reads land in it.
    pub(super) fn read_scratch<'s>(
        &self,
        extent: Extent,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [u8], Failure> {
        let (start, end) = match self.storage.reader().bypasses_page_cache() {
            true => (
                extent.offset - extent.offset % PAGE_BYTES,
                extent
                    .end()
                    .next_multiple_of(PAGE_BYTES)
                    .min(self.storage.len()),
            ),
            false => (extent.offset, extent.end()),
        };
        // A file that was cut short fails at the read.
        let len = end.max(extent.end()) - start;
        let memory = scratch.bytes(len)?;
        self.storage.read_exact_at(start, memory)?;
        let bytes = &memory[(extent.offset - start) as usize..][..extent.len as usize];
        self.checks.see(extent, bytes)?;
        Ok(bytes)
    }
}

/// Whether direct reads from this offset land in this memory.
fn is_congruent(offset: u64, memory: &[u8]) -> bool {
    offset % PAGE_BYTES == memory.as_ptr().addr() as u64 % PAGE_BYTES
}
