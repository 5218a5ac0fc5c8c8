//! The way into a group.

use std::sync::Arc;

use tensorlift_device::{CopyRun, DeviceError, Pull, Pulled, Staging, StagingBuffer};

use crate::device::Inner;
use crate::driver::{DeviceMemory, Slot};
use crate::error::{device_name, failed, misuse};
use crate::group::CudaGroup;

impl Staging for CudaGroup {
    fn take(&self, len: usize) -> Result<Box<dyn StagingBuffer + '_>, DeviceError> {
        let device = self.way_in()?;
        let found = device.ring.buffer_bytes();
        if len > found {
            return Err(DeviceError::StagingTooSmall {
                device: device_name(device.ordinal()),
                needed: len,
                found,
            });
        }
        Ok(Box::new(CudaStagingBuffer {
            slot: Some(device.ring.take()),
            len,
            memory: &self.memory,
            device,
        }))
    }

    fn buffer_bytes(&self) -> usize {
        let ring = self.loading.as_ref().map(|device| &device.ring);
        ring.map_or(0, |ring| ring.buffer_bytes())
    }

    fn pulls(&self) -> bool {
        let device = self.loading.as_ref();
        device.is_some_and(|device| device.files.pulls(&device.context))
    }

    fn pull(&self, pull: &Pull<'_>) -> Result<Pulled, DeviceError> {
        let device = self.way_in()?;
        check_runs(device, pull.runs, pull.len, self.memory.len())?;
        let stream = device.next_stream();
        Ok(device.files.pull(&self.memory, stream, pull))
    }
}

impl CudaGroup {
    fn way_in(&self) -> Result<&Inner, DeviceError> {
        self.loading.as_deref().ok_or_else(|| {
            let ordinal = self.memory.context().ordinal();
            misuse(ordinal, "fill a group", "the group is finished already")
        })
    }
}

/// A pinned buffer in the hands of one reading thread.
struct CudaStagingBuffer<'a> {
    /// Taken out when it goes back to the ring, by `copy` or by `drop`.
    slot: Option<Slot>,
    len: usize,
    memory: &'a Arc<DeviceMemory>,
    device: &'a Inner,
}

impl StagingBuffer for CudaStagingBuffer<'_> {
    fn bytes(&mut self) -> &mut [u8] {
        match &mut self.slot {
            Some(slot) => &mut slot.bytes()[..self.len],
            None => &mut [],
        }
    }

    fn copy(mut self: Box<Self>, runs: &[CopyRun]) -> Result<(), DeviceError> {
        check_runs(self.device, runs, self.len, self.memory.len())?;
        let Some(slot) = self.slot.take() else {
            return Ok(());
        };
        // Conversion docks here: `slot` holds the bytes as the file has them, and is ours. Narrow
        // them in place and shorten the runs before they go to the bus; what is to be widened is
        // widened by a kernel on `stream`, behind the copy.
        let stream = self.device.next_stream();
        let sent = self.device.ring.send(slot, self.memory, stream, runs);
        let bytes: usize = runs.iter().map(|run| run.len).sum();
        sent.map_err(failed(self.device.ordinal(), format!("copy {bytes} bytes")))
    }
}

impl Drop for CudaStagingBuffer<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.device.ring.give_back(slot);
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
    let fits =
        |run: &&CopyRun| !(inside(run.from, run.len, from_len) && inside(run.to, run.len, to_len));
    match runs.iter().find(fits) {
        None => Ok(()),
        Some(run) => Err(misuse(
            device.ordinal(),
            format!("copy {} bytes", run.len),
            format!("{run:?} leaves the {from_len} bytes read or the {to_len} bytes of the group"),
        )),
    }
}
