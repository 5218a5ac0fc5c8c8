//! Pieces of a file's mapping, pinned for as long as they are copied from.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{result, sys};
use tensorlift_device::CopyRun;

use super::call::{CallError, check, note};
use super::context::Context;
use super::memory::DeviceMemory;
use super::stream::{Event, Stream};

/// Pieces begin and end with pages; larger pages are whole numbers of these.
const PAGE_BYTES: usize = 4096;

/// A pinned piece of a mapping, which nobody writes to through this process.
struct Registered<'a> {
    context: &'a Arc<Context>,
    bytes: &'a [u8],
}

impl<'a> Registered<'a> {
    fn new(context: &'a Arc<Context>, bytes: &'a [u8]) -> Result<Self, CallError> {
        const FLAGS: u32 = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_READ_ONLY;
        let start: *const c_void = bytes.as_ptr().cast();
        // SAFETY: the bytes are mapped as long as `self` borrows them, and unregistered in `drop`.
        // The driver does not write to them, and fails where the file has become shorter.
        let registered = unsafe { sys::cuMemHostRegister_v2(start.cast_mut(), bytes.len(), FLAGS) };
        check("cuMemHostRegister", registered.result())?;
        Ok(Self { context, bytes })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let _bound = self.context.bind_anyhow();
        let start: *const c_void = self.bytes.as_ptr().cast();
        // SAFETY: registered in `new`, unregistered once. `take_mapped` has waited for the copies.
        let released = unsafe { sys::cuMemHostUnregister(start.cast_mut()) };
        note(check("cuMemHostUnregister", released.result()));
    }
}

impl DeviceMemory {
    /// Copies runs out of a piece of a mapping, pinned meanwhile, and waits.
    ///
    /// # Panics
    /// If the piece is not inside the mapping, or a run not inside both ends: callers check.
    pub(crate) fn take_mapped(
        &self,
        mapping: &[u8],
        piece: Range<usize>,
        runs: &[CopyRun],
        on: &Stream,
    ) -> Result<(), CallError> {
        let context = on.context();
        let _bound = context.bind()?;
        let from = &mapping[piece.clone()];
        let start = piece.start / PAGE_BYTES * PAGE_BYTES;
        let end = piece.end.next_multiple_of(PAGE_BYTES).min(mapping.len());
        let end_of_copies = Event::new(context)?;
        let registered = Registered::new(context, &mapping[start..end])?;
        let copy = |run: &CopyRun| {
            assert!(self.holds(run.to, run.len), "runs inside the memory");
            let from = &from[run.from..][..run.len];
            // SAFETY: both ends are there until the copies were waited for, below, whatever the
            // calls return.
            let copied = unsafe {
                result::memcpy_htod_async(self.address() + run.to as u64, from, on.raw())
            };
            check("cuMemcpyHtoDAsync", copied)
        };
        let copied = runs.iter().filter(|run| run.len > 0).try_for_each(copy);
        let marked = copied.and_then(|()| end_of_copies.record(on));
        let done = marked.and_then(|()| end_of_copies.synchronize());
        // Where the event says nothing of the copies, the stream does.
        let done = done.or_else(|error| on.drain().and(Err(error)));
        drop(registered);
        done
    }
}
