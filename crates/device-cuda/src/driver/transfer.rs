//! Copies under way, which own both of their ends.

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use tensorlift_device::CopyRun;

use super::call::{CallError, check};
use super::memory::DeviceMemory;
use super::pinned::Slot;
use super::stream::{Event, Stream};

/// From this many runs on, one batched call takes the place of single ones: below it, their cost
/// is hidden behind the copy of a chunk.
const BATCH_FROM: usize = 8;

/// Copies from a slot into device memory, begun and perhaps not ended.
///
/// It owns the slot and shares the memory, so neither can go before it has [waited](Self::wait);
/// dropped, it waits too.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Taken out by `wait` alone.
    slot: Option<Slot>,
    memory: Arc<DeviceMemory>,
    stream: Arc<Stream>,
    end: Event,
}

impl Transfer {
    /// Begins copies; on an error none is under way any more, and the slot comes back.
    ///
    /// # Panics
    /// If a run is not inside both ends: callers check.
    pub(crate) fn begin(
        slot: Slot,
        memory: &Arc<DeviceMemory>,
        stream: &Arc<Stream>,
        runs: &[CopyRun],
    ) -> Result<Self, (Slot, CallError)> {
        let end = match Event::new(stream.context()) {
            Ok(end) => end,
            Err(error) => return Err((slot, error)),
        };
        let begun = enqueue(&slot, memory, stream, runs).and_then(|()| end.record(stream));
        match begun {
            Ok(()) => {
                memory.begin_copy();
                Ok(Self {
                    slot: Some(slot),
                    memory: Arc::clone(memory),
                    stream: Arc::clone(stream),
                    end,
                })
            }
            Err(error) => {
                // Some of the runs may be on their way. The first error is the one to tell.
                let _drained = stream.drain();
                Err((slot, error))
            }
        }
    }

    pub(crate) fn is_into(&self, memory: &Arc<DeviceMemory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    /// Waits until the copies are done, and gives the slot back; the memory learns how they went.
    pub(crate) fn wait(mut self) -> Option<Slot> {
        self.finish()
    }

    fn finish(&mut self) -> Option<Slot> {
        let slot = self.slot.take()?;
        // An event that cannot be waited for says nothing about the copies before it; the stream
        // does.
        let done = self.end.synchronize().or_else(|_| self.stream.drain());
        self.memory.end_copy(done.as_ref().err());
        Some(slot)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn enqueue(
    slot: &Slot,
    memory: &DeviceMemory,
    stream: &Stream,
    runs: &[CopyRun],
) -> Result<(), CallError> {
    for run in runs {
        let inside = run.from.checked_add(run.len);
        assert!(
            inside.is_some_and(|end| end <= slot.len()) && memory.holds(run.to, run.len),
            "runs inside the slot and the memory"
        );
    }
    let _bound = stream.context().bind()?;
    let some = || runs.iter().filter(|run| run.len > 0);
    if some().count() >= BATCH_FROM && enqueue_batch(slot, memory, stream, some()) {
        return Ok(());
    }
    for run in some() {
        // SAFETY: the run is inside both ends, as checked above. The slot's bytes are initialised
        // and, like the memory, kept by the `Transfer` until the stream has come past the copy;
        // no `&mut` to them exists meanwhile, as the slot is inside the transfer.
        let copied = unsafe {
            let from = std::slice::from_raw_parts(slot.start().add(run.from), run.len);
            result::memcpy_htod_async(memory.address() + run.to as u64, from, stream.raw())
        };
        check("cuMemcpyHtoDAsync", copied)?;
    }
    Ok(())
}

/// Whether the driver took all runs at once. Where it refuses, it may have taken some: copied
/// again on the same stream, they do no harm.
fn enqueue_batch<'a>(
    slot: &Slot,
    memory: &DeviceMemory,
    stream: &Stream,
    runs: impl Iterator<Item = &'a CopyRun> + Clone,
) -> bool {
    let Some(driver) = stream.context().batch() else {
        return false;
    };
    let from = |run: &CopyRun| slot.start().addr() as CUdeviceptr + run.from as u64;
    let to: Vec<_> = (runs.clone().map(|run| memory.address() + run.to as u64)).collect();
    let from: Vec<_> = runs.clone().map(from).collect();
    let sizes: Vec<_> = runs.map(|run| run.len).collect();
    // SAFETY: as for the single copies in `enqueue`.
    let taken = unsafe { driver.copy_batch(&to, &from, &sizes, stream.raw()) };
    let taken = taken.is_some_and(|code| code.result().is_ok());
    if !taken {
        stream.context().refuse_batch();
    }
    taken
}
