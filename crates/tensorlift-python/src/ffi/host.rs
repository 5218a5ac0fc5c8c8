//! Host memory whose pages are returned to the system with the last tensor on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{Advice, MmapMut, UncheckedAdvice};
use tensorlift_device::{
    Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostDevice,
};

/// Memory is returned in runs of this many bytes: small enough that one small tensor that stays
/// holds little, large enough that dropping many small tensors costs few system calls.
const RUN_BYTES: usize = 64 << 10;
/// Blocks from this size on are aligned to huge pages and end with one.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Loads into blocks of host memory that Python objects can own in parts.
#[derive(Debug)]
pub(crate) struct PythonHost;

impl Device for PythonHost {
    fn name(&self) -> String {
        "host".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules::default()
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        HostDevice::new().reserve(bytes)
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let block = HostBlock::new(request.bytes).map_err(|source| DeviceError::Allocation {
            device: self.name(),
            needed: request.bytes as u64,
            source,
        })?;
        Ok(Box::new(PythonGroup(Arc::new(block))))
    }
}

/// The group of a [`PythonHost`].
#[derive(Debug)]
pub(crate) struct PythonGroup(Arc<HostBlock>);

impl PythonGroup {
    /// The block behind a group, if it is one of a [`PythonHost`].
    fn block(&self) -> Arc<HostBlock> {
        Arc::clone(&self.0)
    }
}

impl Group for PythonGroup {
    fn len(&self) -> usize {
        self.0.len
    }

    fn destination(&mut self) -> Destination<'_> {
        // SAFETY: `start..start + len` lies in the mapping, which lives as long as the block.
        // Python objects get the block only after the load, and the loader has the group for
        // itself until then, so this is the only reference.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.0.address(), self.0.len) };
        Destination::Host(bytes)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Nothing: Python may write to the memory at any time.
    fn as_host(&self) -> Option<&[u8]> {
        None
    }
}

/// One allocation that many tensors look at.
#[derive(Debug)]
pub(crate) struct HostBlock {
    map: MmapMut,
    /// The first byte, within the mapping.
    start: usize,
    len: usize,
    /// How many tensors touch each run of [`RUN_BYTES`].
    users: Box<[AtomicU32]>,
}

// SAFETY: the mapping is never read or written through this type; `address` hands out a pointer,
// and its users answer for that.
unsafe impl Sync for HostBlock {}

impl HostBlock {
    fn new(len: usize) -> std::io::Result<Self> {
        let huge = len >= HUGE_PAGE_BYTES / 4;
        let (taken, slack) = match huge {
            true => (
                len.checked_next_multiple_of(HUGE_PAGE_BYTES),
                HUGE_PAGE_BYTES,
            ),
            false => (Some(len.max(1)), 0),
        };
        let reserved = taken.and_then(|taken| taken.checked_add(slack));
        let reserved = reserved.ok_or(std::io::ErrorKind::OutOfMemory)?;
        let map = MmapMut::map_anon(reserved)?;
        let first = map.as_ptr().addr();
        let start = match huge {
            true => first.next_multiple_of(HUGE_PAGE_BYTES) - first,
            false => 0,
        };
        if huge {
            // Without huge pages the memory is slower to fill, and no less correct.
            let _ = map.advise_range(Advice::HugePage, start, reserved - slack);
        }
        let users = (0..len.div_ceil(RUN_BYTES)).map(|_| AtomicU32::new(0));
        Ok(Self {
            start,
            len,
            users: users.collect(),
            map,
        })
    }

    /// The block of a group, if it is one of a [`PythonHost`].
    pub(crate) fn of(group: &dyn Group) -> Option<Arc<Self>> {
        let group: &dyn std::any::Any = group;
        group.downcast_ref::<PythonGroup>().map(PythonGroup::block)
    }

    /// The address of the first byte.
    pub(crate) fn address(&self) -> *mut u8 {
        self.map.as_ptr().cast_mut().wrapping_add(self.start)
    }

    /// Counts a user of `len` bytes from `start` on.
    pub(crate) fn hold(&self, start: usize, len: usize) {
        for run in runs(start, len) {
            self.users[run].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends what [`hold`](Self::hold) began: runs that nobody touches any more are returned
    /// to the system.
    pub(crate) fn release(&self, start: usize, len: usize) {
        let mut idle: Option<std::ops::Range<usize>> = None;
        for run in runs(start, len) {
            // The last user of a run must see what the others did with it as over.
            if self.users[run].fetch_sub(1, Ordering::AcqRel) != 1 {
                self.give_back(idle.take());
                continue;
            }
            match &mut idle {
                Some(idle) => idle.end = run + 1,
                None => idle = Some(run..run + 1),
            }
        }
        self.give_back(idle);
    }

    fn give_back(&self, runs: Option<std::ops::Range<usize>>) {
        let Some(runs) = runs else { return };
        let start = runs.start * RUN_BYTES;
        let len = (runs.end * RUN_BYTES).min(self.len) - start;
        // SAFETY: no tensor touches these runs, and none will again: users are counted before
        // the first tensor is handed out, and a count of zero is final.
        // A refusal leaves the pages until the block goes, and does no harm.
        let _ = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, self.start + start, len)
        };
    }
}

/// The runs that some bytes touch.
fn runs(start: usize, len: usize) -> std::ops::Range<usize> {
    match len {
        0 => 0..0,
        _ => start / RUN_BYTES..(start + len).div_ceil(RUN_BYTES),
    }
}
