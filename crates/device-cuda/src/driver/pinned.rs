//! Host memory that the device can read at full speed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cudarc::driver::{result, sys};
use tensorlift_storage::Anonymous;

use super::call::{CallError, check, note};
use super::context::Context;

/// Threads that touch memory for the first time: more are no faster.
const TOUCHING: usize = 8;

/// Host memory in huge pages, all of them resident.
///
/// Registering memory that was touched by several threads takes a seventh of the time in which the
/// driver allocates as much.
#[derive(Debug)]
pub(crate) struct HostMemory(Anonymous);

impl HostMemory {
    /// `len` bytes; each thread touches whole parts of `part` bytes.
    pub(crate) fn touched(len: usize, part: usize) -> io::Result<Self> {
        let mut memory = Anonymous::new(len)?;
        let each = (len / part.max(1)).div_ceil(TOUCHING).max(1) * part.max(1);
        // One byte of each page is enough, whatever the pages' size.
        let touch = |part: &mut [u8]| part.iter_mut().step_by(4096).for_each(|byte| *byte = 0);
        let parts = Mutex::new(memory.chunks_mut(each));
        // The lock is released before the part is touched.
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || std::iter::from_fn(next).for_each(touch);
        thread::scope(|scope| {
            // The calling thread touches what no other thread takes.
            let others = 1..TOUCHING.min(len.div_ceil(each));
            let refused = |_| thread::Builder::new().spawn_scoped(scope, run).is_err();
            if others.into_iter().any(refused) {
                tracing::debug!("fewer threads touch the staging slots: the system refused one");
            }
            run();
        });
        Ok(Self(memory))
    }
}

/// Pinned host memory, cut into slots.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    context: Arc<Context>,
    start: *mut u8,
    len: usize,
    /// The memory that was registered; none: the driver allocated.
    registered: Option<HostMemory>,
}

// SAFETY: the memory belongs to the slots, of which each is in one hand; this value only keeps it
// alive, and releases it when no slot is left.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above: nothing is read or written through a shared reference.
unsafe impl Sync for PinnedMemory {}

/// One staging slot: a part of pinned memory that no other slot overlaps.
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
    /// Pins memory for the device.
    ///
    /// It is never write-combined memory, which the host reads very slowly.
    pub(crate) fn register(
        context: &Arc<Context>,
        mut memory: HostMemory,
    ) -> Result<Self, CallError> {
        let _bound = context.bind()?;
        let (start, len) = (memory.0.as_mut_ptr(), memory.0.len());
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the mapping is alive, and is kept in `self` until it is unregistered.
        let registered = unsafe { sys::cuMemHostRegister_v2(start.cast(), len, flags) };
        check("cuMemHostRegister", registered.result())?;
        Ok(Self {
            context: Arc::clone(context),
            start,
            len,
            registered: Some(memory),
        })
    }

    /// Pinned memory from the driver, which takes longer to allocate.
    pub(crate) fn allocate(context: &Arc<Context>, len: usize) -> Result<Self, CallError> {
        let _bound = context.bind()?;
        // SAFETY: what is in the memory is written below before anyone can read it.
        let start = unsafe { result::malloc_host(len, sys::CU_MEMHOSTALLOC_PORTABLE) };
        let start: *mut u8 = check("cuMemHostAlloc", start)?.cast();
        // SAFETY: the driver gave `len` bytes.
        unsafe { start.write_bytes(0, len) };
        Ok(Self {
            context: Arc::clone(context),
            start,
            len,
            registered: None,
        })
    }

    /// Slots of `len` bytes each.
    pub(crate) fn into_slots(self, len: usize) -> Vec<Slot> {
        let memory = Arc::new(self);
        let slot = |index| Slot {
            // SAFETY: `index * len` is below the memory's length.
            start: unsafe { memory.start.add(index * len) },
            len,
            memory: Arc::clone(&memory),
        };
        (0..memory.len / len).map(slot).collect()
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let _bound = self.context.bind_anyhow();
        // SAFETY: pinned once, released once by the matching call. No copy reads it any more:
        // each slot belongs to a `StreamLane`, which waits before it lets go of it.
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
        // lane that owns the slot has waited for the copies out of it.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// The first byte, for copies of the lane that owns the slot.
    pub(super) fn start(&self) -> *const u8 {
        self.start
    }

    /// The call that pinned the memory.
    pub(crate) fn pinned_by(&self) -> &'static str {
        match self.memory.registered {
            Some(_) => "cuMemHostRegister",
            None => "cuMemHostAlloc",
        }
    }
}
