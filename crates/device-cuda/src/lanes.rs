//! The lanes of a device: pinned slots, streams and events, made once and lent to readers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tensorlift_device::{DeviceError, LanePool};

use crate::driver::{CallError, Context, HostMemory, Lane, PinnedMemory, Slot};
use crate::error::failed;

/// Slots of a lane: one is read into while the other is copied from.
pub(crate) const SLOTS: usize = 2;

/// All lanes of a device, as many as its largest load so far could use.
#[derive(Debug)]
pub(crate) struct Lanes {
    slot_bytes: usize,
    /// More than this are never made.
    most: usize,
    pub(crate) pool: LanePool<Lane>,
    made: Mutex<Made>,
}

/// What was made so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) lanes: usize,
    pub(crate) pinned_bytes: u64,
    /// The call that pinned the slots.
    pub(crate) pinned_by: Option<&'static str>,
    /// How long touching and pinning took.
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

    /// Makes as many lanes as a load of so many bytes can use, unless they are there.
    pub(crate) fn make_for(&self, bytes: u64, context: &Arc<Context>) -> Result<(), DeviceError> {
        let lane_bytes = SLOTS * self.slot_bytes;
        let wanted = bytes.div_ceil(lane_bytes as u64).max(1);
        let wanted = usize::try_from(wanted).map_or(self.most, |wanted| wanted.min(self.most));
        // Locked while lanes are made, so that two loads at once make them once.
        let mut made = self.lock();
        if wanted <= made.lanes || made.full {
            return Ok(());
        }
        let begun = Instant::now();
        let missing = wanted - made.lanes;
        let pin = format!("pin {missing} times {lane_bytes} bytes");
        let slots = self.pin(missing, context);
        let mut slots = slots.map_err(failed(context.ordinal(), pin))?;
        made.full = slots.len() < missing * SLOTS;
        made.pinned_by = slots.first().map(Slot::pinned_by);
        made.pinned_bytes += (slots.len() * self.slot_bytes) as u64;
        while !slots.is_empty() {
            let rest = slots.split_off(SLOTS);
            let lane = Lane::new(context, std::mem::replace(&mut slots, rest));
            self.pool
                .add(lane.map_err(failed(context.ordinal(), "create a stream"))?);
            made.lanes += 1;
        }
        made.pinning += begun.elapsed();
        Ok(())
    }

    /// The slots of so many lanes, or of fewer where less memory can be pinned.
    fn pin(&self, mut lanes: usize, context: &Arc<Context>) -> Result<Vec<Slot>, CallError> {
        let wanted = lanes;
        loop {
            let bytes = lanes * SLOTS * self.slot_bytes;
            let pinned = HostMemory::touched(bytes, self.slot_bytes)
                .map_err(|error| error.to_string())
                .and_then(|memory| {
                    let pinned = PinnedMemory::register(context, memory);
                    pinned.map_err(|error| error.to_string())
                });
            match pinned {
                Ok(pinned) => return Ok(pinned.into_slots(self.slot_bytes)),
                Err(error) => tracing::debug!(error, bytes, "host memory was not registered"),
            }
            if lanes == 1 {
                let pinned = PinnedMemory::allocate(context, wanted * SLOTS * self.slot_bytes)?;
                return Ok(pinned.into_slots(self.slot_bytes));
            }
            lanes /= 2;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
