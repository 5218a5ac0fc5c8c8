//! Host memory that the device can read at full speed.

use std::sync::Arc;

use cudarc::driver::{result, sys};
use tensorlift_memory::Anonymous;

use super::call::{CallError, check, note};
use super::context::Context;

/// Pinned host memory, cut into slots.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    context: Arc<Context>,
    start: *mut u8,
    /// The mapping that was registered; none: the driver allocated.
    registered: Option<Anonymous>,
}

// SAFETY: the memory belongs to the slots, of which each is in one hand; this value only keeps it
// alive, and releases it when no slot is left.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above: nothing is read or written through a shared reference.
unsafe impl Sync for PinnedMemory {}

/// One staging buffer: a part of pinned memory that no other slot overlaps.
#[derive(Debug)]
pub(crate) struct Slot {
    start: *mut u8,
    len: usize,
    memory: Arc<PinnedMemory>,
}

// SAFETY: the slot's bytes are its own.
unsafe impl Send for Slot {}
// SAFETY: a shared reference gives no access to them.
unsafe impl Sync for Slot {}

impl PinnedMemory {
    /// `count` slots of `len` bytes, pinned for all devices of the process.
    ///
    /// Anonymous huge pages that are then registered come first: the kernel refuses some uses of
    /// memory that the driver allocates (fixed buffers of io_uring), and small pages cost. Never
    /// is it write-combined memory, which the host reads at a crawl.
    pub(crate) fn slots(
        context: &Arc<Context>,
        count: usize,
        len: usize,
    ) -> Result<Vec<Slot>, CallError> {
        let total = count * len;
        let _bound = context.bind()?;
        let memory = match Self::register(context, total) {
            Ok(memory) => memory,
            Err(error) => {
                tracing::debug!(error, "host memory was not registered");
                Self::allocate(context, total)?
            }
        };
        let memory = Arc::new(memory);
        let slot = |index| Slot {
            // SAFETY: `index * len` is below the memory's length.
            start: unsafe { memory.start.add(index * len) },
            len,
            memory: Arc::clone(&memory),
        };
        Ok((0..count).map(slot).collect())
    }

    fn register(context: &Arc<Context>, len: usize) -> Result<Self, String> {
        let mut mapping = Anonymous::new(len).map_err(|error| error.to_string())?;
        let start = mapping.as_mut_ptr();
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the mapping is alive, and is kept in `self` until it is unregistered.
        let registered = unsafe { sys::cuMemHostRegister_v2(start.cast(), len, flags) };
        check("cuMemHostRegister", registered.result()).map_err(|error| error.to_string())?;
        Ok(Self {
            context: Arc::clone(context),
            start,
            registered: Some(mapping),
        })
    }

    fn allocate(context: &Arc<Context>, len: usize) -> Result<Self, CallError> {
        // SAFETY: what is in the memory is written below before anyone can read it.
        let start = unsafe { result::malloc_host(len, sys::CU_MEMHOSTALLOC_PORTABLE) };
        let start: *mut u8 = check("cuMemHostAlloc", start)?.cast();
        // SAFETY: the driver gave `len` bytes.
        unsafe { start.write_bytes(0, len) };
        Ok(Self {
            context: Arc::clone(context),
            start,
            registered: None,
        })
    }

    /// The call that pinned the memory.
    pub(crate) fn pinned_by(&self) -> &'static str {
        match self.registered {
            Some(_) => "cuMemHostRegister",
            None => "cuMemHostAlloc",
        }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let _bound = self.context.bind_anyhow();
        // SAFETY: pinned once, released once by the matching call. No copy reads it any more:
        // slots under way are in `Transfer`s, which wait before they let go of them.
        let released = unsafe {
            match self.registered {
                Some(_) => check(
                    "cuMemHostUnregister",
                    sys::cuMemHostUnregister(self.start.cast()).result(),
                ),
                None => check("cuMemFreeHost", result::free_host(self.start.cast())),
            }
        };
        note(released);
    }
}

impl Slot {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the bytes are this slot's own, initialised, and alive through `memory`; the
        // reference borrows the slot, so that no copy can begin meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// The first byte, for copies that own the slot.
    pub(super) fn start(&self) -> *const u8 {
        self.start
    }

    /// The call that pinned the memory.
    pub(crate) fn pinned_by(&self) -> &'static str {
        self.memory.pinned_by()
    }
}
