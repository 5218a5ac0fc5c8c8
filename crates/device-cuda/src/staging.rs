//! Copies into a group: the hot path.

use std::sync::Arc;

use tensorlift_device::{CopyRun, DeviceError, Lane, Pull, Pulled, Staging};

use crate::device::Inner;
use crate::driver::{self, Allocation, Bound};
use crate::error::{device_name, failed, misuse};
use crate::group::CudaGroup;
use crate::lanes::SLOTS;

impl Staging for CudaGroup {
    fn lane(&self) -> Result<Box<dyn Lane + '_>, DeviceError> {
        let device = self.device()?;
        device.make_lanes(1)?;
        let bind = failed(device.ordinal(), "make its context current");
        let bound = device.context()?.bind().map_err(bind)?;
        Ok(Box::new(CudaLane {
            lane: Some(device.lanes.pool.take()),
            len: 0,
            memory: &self.memory,
            device,
            _bound: bound,
        }))
    }

    fn lanes(&self) -> usize {
        let device = self.loading.as_ref();
        device.map_or(0, |device| device.lanes.made().lanes)
    }

    fn slots(&self) -> usize {
        SLOTS
    }

    fn slot_bytes(&self) -> usize {
        let device = self.loading.as_ref();
        device.map_or(0, |device| device.lanes.slot_bytes())
    }

    fn pulls(&self) -> bool {
        let device = self.loading.as_ref();
        device.is_some_and(|device| device.files.pulls())
    }

    fn pull(&self, pull: &Pull<'_>) -> Result<Pulled, DeviceError> {
        let device = self.device()?;
        check_runs(device, pull.runs, pull.len, self.memory.len())?;
        let home = &device.started()?.home;
        Ok(device.files.pull(&self.memory, home, pull))
    }
}

impl CudaGroup {
    fn device(&self) -> Result<&Inner, DeviceError> {
        self.loading.as_deref().ok_or_else(|| {
            let ordinal = self.memory.context().ordinal();
            misuse(ordinal, "fill a group", "the group is finished already")
        })
    }
}

/// A lane of one reading thread, to which the context is current meanwhile.
///
/// A chunk takes three calls of the driver: the copy, the record of an event behind it, and later
/// the wait for that event.
struct CudaLane<'a> {
    /// Taken out by `drop` alone.
    lane: Option<driver::StreamLane>,
    /// The length requested of the slot last.
    len: usize,
    memory: &'a Arc<Allocation>,
    device: &'a Inner,
    _bound: Bound<'a>,
}

impl Lane for CudaLane<'_> {
    fn slot(&mut self, len: usize) -> Result<&mut [u8], DeviceError> {
        let found = self.device.lanes.slot_bytes();
        if len > found {
            return Err(DeviceError::StagingTooSmall {
                device: device_name(self.device.ordinal()),
                needed: len,
                found,
            });
        }
        self.len = len;
        let lane = self.lane.as_mut();
        Ok(lane.map_or(&mut [], |lane| &mut lane.slot()[..len]))
    }

    fn copy(&mut self, runs: &[CopyRun]) -> Result<(), DeviceError> {
        check_runs(self.device, runs, self.len, self.memory.len())?;
        let _span = tracing::trace_span!("copy", bytes = self.len, runs = runs.len()).entered();
        let Some(lane) = &mut self.lane else {
            return Ok(());
        };
        // The slot holds the bytes that arrive; the loader narrows elements in it before this call.
        lane.copy(self.memory, runs).map_err(|error| {
            let bytes: usize = runs.iter().map(|run| run.len).sum();
            failed(self.device.ordinal(), format!("copy {bytes} bytes"))(error)
        })
    }

    fn is_wanted(&self) -> bool {
        self.device.lanes.pool.is_wanted()
    }
}

impl Drop for CudaLane<'_> {
    fn drop(&mut self) {
        if let Some(mut lane) = self.lane.take() {
            lane.settle();
            self.device.lanes.pool.give_back(lane);
        }
    }
}

/// Runs must lie inside both ends.
fn check_runs(
    device: &Inner,
    runs: &[CopyRun],
    from_len: usize,
    to_len: usize,
) -> Result<(), DeviceError> {
    let inside = |start: usize, len, of| start.checked_add(len).is_some_and(|end| end <= of);
    let leaves =
        |run: &&CopyRun| !(inside(run.from, run.len, from_len) && inside(run.to, run.len, to_len));
    match runs.iter().find(leaves) {
        None => Ok(()),
        Some(run) => Err(misuse(
            device.ordinal(),
            format!("copy {} bytes", run.len),
            format!("{run:?} leaves the {from_len} bytes read or the {to_len} bytes of the group"),
        )),
    }
}
