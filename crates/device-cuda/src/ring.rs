//! The ring of pinned buffers, shared by all loads of a process.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tensorlift_device::CopyRun;

use crate::driver::{CallError, Context, DeviceMemory, PinnedMemory, Slot, Stream, Transfer};

/// Rings that are alive. Pinning costs more than a small load takes, so devices of one process
/// share a ring as long as any of them lives.
static RINGS: Mutex<Vec<Weak<Ring>>> = Mutex::new(Vec::new());

/// Pinned buffers that are free, under way, or in the hands of a reading thread.
///
/// A thread holds one buffer at a time and gives it back by copying or dropping it, and what is
/// under way ends by itself: so someone can always go on.
#[derive(Debug)]
pub(crate) struct Ring {
    buffers: usize,
    buffer_bytes: usize,
    pinned_by: &'static str,
    pinning: Duration,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    free: Vec<Slot>,
    /// In the order in which they began.
    under_way: VecDeque<Transfer>,
}

impl Ring {
    /// A ring of this shape: one that is alive, or a new one; the second value says which.
    pub(crate) fn shared(
        context: &Arc<Context>,
        buffers: usize,
        buffer_bytes: usize,
    ) -> Result<(Arc<Self>, bool), CallError> {
        // Locked while a ring is made, so that two devices opened at once make one.
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|ring| ring.strong_count() > 0);
        let alive = rings.iter().filter_map(Weak::upgrade);
        let fits = |ring: &Arc<Ring>| ring.buffers == buffers && ring.buffer_bytes == buffer_bytes;
        if let Some(ring) = alive.into_iter().find(fits) {
            return Ok((ring, true));
        }
        let ring = Arc::new(Self::new(context, buffers, buffer_bytes)?);
        rings.push(Arc::downgrade(&ring));
        Ok((ring, false))
    }

    fn new(context: &Arc<Context>, buffers: usize, buffer_bytes: usize) -> Result<Self, CallError> {
        let begun = Instant::now();
        let free = PinnedMemory::slots(context, buffers, buffer_bytes)?;
        Ok(Self {
            buffers,
            buffer_bytes,
            pinned_by: free.first().map_or("nothing", Slot::pinned_by),
            pinning: begun.elapsed(),
            state: Mutex::new(State {
                free,
                under_way: VecDeque::new(),
            }),
            freed: Condvar::new(),
        })
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.buffers * self.buffer_bytes) as u64
    }

    pub(crate) fn pinned_by(&self) -> &'static str {
        self.pinned_by
    }

    /// How long pinning took.
    pub(crate) fn pinning(&self) -> Duration {
        self.pinning
    }

    /// A free buffer, once there is one.
    pub(crate) fn take(&self) -> Slot {
        let mut state = self.lock();
        loop {
            if let Some(slot) = state.free.pop() {
                return slot;
            }
            if let Some(oldest) = state.under_way.pop_front() {
                // Others may go on meanwhile.
                drop(state);
                if let Some(slot) = oldest.wait() {
                    return slot;
                }
                state = self.lock();
                continue;
            }
            let woken = self.freed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn give_back(&self, slot: Slot) {
        self.lock().free.push(slot);
        self.freed.notify_one();
    }

    /// Begins copies out of a buffer; it comes free when they are done.
    pub(crate) fn send(
        &self,
        slot: Slot,
        memory: &Arc<DeviceMemory>,
        stream: &Arc<Stream>,
        runs: &[CopyRun],
    ) -> Result<(), CallError> {
        match Transfer::begin(slot, memory, stream, runs) {
            Ok(transfer) => {
                self.lock().under_way.push_back(transfer);
                self.freed.notify_one();
                Ok(())
            }
            Err((slot, error)) => {
                self.give_back(slot);
                Err(error)
            }
        }
    }

    /// Waits for all copies into this memory, and tells how they went.
    pub(crate) fn settle(&self, memory: &Arc<DeviceMemory>) -> Result<(), CallError> {
        let own: VecDeque<_> = {
            let mut state = self.lock();
            let all = std::mem::take(&mut state.under_way);
            let (own, others) = all.into_iter().partition(|t| t.is_into(memory));
            state.under_way = others;
            own
        };
        own.into_iter()
            .filter_map(Transfer::wait)
            .for_each(|slot| self.give_back(slot));
        // Some may be in the hands of threads that wait for a buffer.
        memory.settled()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
