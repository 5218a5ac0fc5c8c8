//! Staging slots with their own stream, and the copies out of them.

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use tensorlift_device::CopyRun;

use super::call::{CallError, check};
use super::context::Context;
use super::memory::Allocation;
use super::pinned::Slot;
use super::stream::{Event, Stream};

/// From this many runs on, one batched call takes the place of single ones: below it, their cost
/// is hidden behind the copy of a chunk.
const BATCH_FROM: usize = 8;

/// Slots that are filled in turn while the others are copied from.
///
/// Its calls are for a thread to which the context is current, except those of `drop`.
/// It shares the memory that a copy goes to until the copy was waited for, and owns the slot that
/// the copy comes from: a lane that is forgotten keeps both alive.
#[derive(Debug)]
pub(crate) struct StreamLane {
    stream: Arc<Stream>,
    /// Never empty.
    slots: Vec<StagingSlot>,
    /// The slot that is filled next.
    next: usize,
}

#[derive(Debug)]
struct StagingSlot {
    slot: Slot,
    /// Recorded behind the last copy out of the slot.
    end: Event,
    /// What that copy goes to, until it was waited for.
    into: Option<Arc<Allocation>>,
}

impl StreamLane {
    /// A lane of these slots, of which there is at least one.
    pub(crate) fn new(context: &Arc<Context>, slots: Vec<Slot>) -> Result<Self, CallError> {
        let stream = Stream::new(context)?;
        let slot = |slot| {
            Ok(StagingSlot {
                slot,
                end: Event::new(context)?,
                into: None,
            })
        };
        Ok(Self {
            stream,
            slots: slots.into_iter().map(slot).collect::<Result<_, _>>()?,
            next: 0,
        })
    }

    /// The next slot, once nothing is copied from it any more.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        let slot = &mut self.slots[self.next];
        slot.settle(&self.stream);
        slot.slot.bytes()
    }

    /// Begins copies out of the next slot, which is then the last one; on an error none is under
    /// way any more.
    ///
    /// # Panics
    /// If a run is not inside both ends: callers check.
    pub(crate) fn copy(
        &mut self,
        memory: &Arc<Allocation>,
        runs: &[CopyRun],
    ) -> Result<(), CallError> {
        let slot = &mut self.slots[self.next];
        slot.settle(&self.stream);
        slot.into = Some(Arc::clone(memory));
        let begun = enqueue(&slot.slot, memory, &self.stream, runs)
            .and_then(|()| slot.end.record(&self.stream));
        if begun.is_err() {
            // Some of the runs may be in flight. The first error is returned.
            let _drained = self.stream.drain();
            slot.into = None;
        }
        self.next = (self.next + 1) % self.slots.len();
        begun
    }

    /// Waits for all copies; the memory that they go to learns how they went.
    pub(crate) fn settle(&mut self) {
        for slot in &mut self.slots {
            slot.settle(&self.stream);
        }
    }
}

impl StagingSlot {
    fn settle(&mut self, stream: &Stream) {
        let Some(memory) = self.into.take() else {
            return;
        };
        // An event that cannot be waited for says nothing about the copies before it; the stream
        // does.
        if let Err(error) = self.end.synchronize().or_else(|_| stream.drain()) {
            memory.fail(error);
        }
    }
}

impl Drop for StreamLane {
    fn drop(&mut self) {
        let context = Arc::clone(self.stream.context());
        let under_way = self.slots.iter().any(|slot| slot.into.is_some());
        let _bound = under_way.then(|| context.bind_anyhow());
        self.settle();
    }
}

fn enqueue(
    slot: &Slot,
    memory: &Allocation,
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
    let some = || runs.iter().filter(|run| run.len > 0);
    if some().count() >= BATCH_FROM && enqueue_batch(slot, memory, stream, some()) {
        return Ok(());
    }
    for run in some() {
        // SAFETY: the run is inside both ends, as checked above. The slot's bytes are initialised
        // and, like the memory, kept by the lane until the copy was waited for; no `&mut` to them
        // exists meanwhile, as `StreamLane::slot` waits before it gives one out.
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
    memory: &Allocation,
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
