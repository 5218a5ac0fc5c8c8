//! The lanes of a device: pinned slots, streams and events, made once and lent to readers.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tensorlift_device::{DeviceError, LanePool};

use crate::driver::{CallError, Context, HostMemory, PinnedMemory, Slot, StreamLane};
use crate::error::failed;

/// Slots of a lane: one is read into while the other is copied from.
pub(crate) const SLOTS: usize = 2;

/// All lanes of a device, as many as its largest load so far could use.
#[derive(Debug)]
pub(crate) struct Lanes {
    slot_bytes: usize,
    /// The most lanes that are made.
    most: usize,
    pub(crate) pool: LanePool<StreamLane>,
    made: Mutex<Made>,
}

/// The lanes made so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) lanes: usize,
    pub(crate) pinned_bytes: u64,
    /// The call that pinned the slots.
    pub(crate) pinned_by: Option<&'static str>,
    /// How long touching and pinning took, without the wait for the driver.
    pub(crate) pinning: Duration,
    /// Whether the system refused to pin more.
    full: bool,
}

impl Lanes {
    pub(crate) fn new(most: usize, slot_bytes: usize) -> Self {
        Self {
            slot_bytes,
            most,
            pool: LanePool::default(),
            made: Mutex::default(),
        }
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    pub(crate) fn made(&self) -> Made {
        *self.lock()
    }

    /// Makes as many lanes as a load of this many bytes can use, unless they exist.
    ///
    /// Their memory is touched before the context is asked for, which may have to wait for the
    /// driver.
    pub(crate) fn make_for<'a>(
        &self,
        bytes: u64,
        context: impl FnOnce() -> Result<&'a Arc<Context>, DeviceError>,
    ) -> Result<(), DeviceError> {
        let lane_bytes = SLOTS * self.slot_bytes;
        let wanted = bytes.div_ceil(lane_bytes as u64).max(1);
        let wanted = usize::try_from(wanted).map_or(self.most, |wanted| wanted.min(self.most));
        // Locked while lanes are made, so that two loads at once make them once.
        let mut made = self.lock();
        if wanted <= made.lanes || made.full {
            return Ok(());
        }
        let missing = wanted - made.lanes;
        let begun = Instant::now();
        let memory = self.touch(missing);
        made.pinning += begun.elapsed();
        let context = context()?;
        let begun = Instant::now();
        let pin = format!("pin {missing} times {lane_bytes} bytes");
        let slots = self.pin(missing, memory, context);
        let slots = slots.map_err(failed(context.ordinal(), pin))?;
        made.full = slots.len() < missing * SLOTS;
        made.pinned_by = slots.first().map(Slot::pinned_by);
        let mut slots = slots.into_iter();
        while slots.len() > 0 {
            let lane = StreamLane::new(context, slots.by_ref().take(SLOTS).collect());
            let lane = lane.map_err(failed(context.ordinal(), "create a stream"));
            self.pool.add(lane?);
            made.lanes += 1;
            made.pinned_bytes += lane_bytes as u64;
        }
        made.pinning += begun.elapsed();
        Ok(())
    }

    fn touch(&self, lanes: usize) -> io::Result<HostMemory> {
        HostMemory::touched(lanes * SLOTS * self.slot_bytes, self.slot_bytes)
    }

    /// The slots of this many lanes, or of fewer if less memory can be pinned.
    fn pin(
        &self,
        wanted: usize,
        mut memory: io::Result<HostMemory>,
        context: &Arc<Context>,
    ) -> Result<Vec<Slot>, CallError> {
        let mut lanes = wanted;
        loop {
            let pinned = memory.map(|memory| PinnedMemory::register(context, memory));
            match pinned {
                Ok(Ok(pinned)) => return Ok(pinned.into_slots(self.slot_bytes)),
                Ok(Err(error)) => tracing::debug!(%error, lanes, "host memory was not registered"),
                Err(error) => tracing::debug!(%error, lanes, "no host memory for slots"),
            }
            if lanes == 1 {
                let pinned = PinnedMemory::allocate(context, wanted * SLOTS * self.slot_bytes)?;
                return Ok(pinned.into_slots(self.slot_bytes));
            }
            lanes /= 2;
            memory = self.touch(lanes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
