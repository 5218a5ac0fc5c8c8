//! For measurements: chunks through a device's lanes, with nothing planned.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use crate::{CopyRun, Destination, Device, DeviceError, Group, GroupRequest, Staging};

/// Fills a new group chunk by chunk, through all lanes of the device at once: what a load to it can
/// be held against. With a `fill` that does nothing, copies alone are measured.
///
/// `fill` gets the position of a chunk's first byte in the group, and the memory of the chunk: of
/// at most `chunk_bytes` bytes, and of no more than a slot has.
///
/// ```
/// use tensorlift_device::{DeviceError, HostDevice, measure};
///
/// let count = |start: usize, chunk: &mut [u8]| {
///     chunk.iter_mut().zip(start..).for_each(|(byte, at)| *byte = at as u8);
///     Ok::<_, DeviceError>(())
/// };
/// let group = measure::bring(&HostDevice::new(), 5, 2, count)?;
/// assert_eq!(group.as_host(), Some([0, 1, 2, 3, 4].as_slice()));
/// # Ok::<(), DeviceError>(())
/// ```
///
/// # Errors
/// If the device refuses, and the first that `fill` returns.
pub fn bring<E: From<DeviceError> + Send>(
    device: &dyn Device,
    bytes: usize,
    chunk_bytes: usize,
    fill: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<Box<dyn Group>, E> {
    device.reserve(bytes as u64)?;
    let mut group = device.allocate(&GroupRequest::new(bytes))?;
    match group.destination() {
        Destination::Host(memory) => {
            let chunks = memory.chunks_mut(chunk_bytes.max(1));
            let mut chunks = chunks.zip((0..).step_by(chunk_bytes.max(1)));
            chunks.try_for_each(|(chunk, start)| fill(start, chunk))?;
        }
        Destination::Staged(staging) => through_lanes(staging, bytes, chunk_bytes, &fill)?,
    }
    group.finish()?;
    Ok(group)
}

fn through_lanes<E: From<DeviceError> + Send>(
    staging: &dyn Staging,
    bytes: usize,
    chunk_bytes: usize,
    fill: &(impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync),
) -> Result<(), E> {
    let chunk_bytes = chunk_bytes.clamp(1, staging.slot_bytes().max(1));
    let next = AtomicUsize::new(0);
    let read = || -> Result<(), E> {
        let mut lane = staging.lane()?;
        loop {
            let to = next.fetch_add(chunk_bytes, Ordering::Relaxed);
            if to >= bytes {
                return Ok(());
            }
            let len = (bytes - to).min(chunk_bytes);
            fill(to, lane.slot(len)?)?;
            lane.copy(&[CopyRun { from: 0, to, len }])?;
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..staging.lanes()).map(|_| scope.spawn(read)).collect();
        let ends: Vec<_> = readers.into_iter().map(ScopedJoinHandle::join).collect();
        let mut ends = ends.into_iter();
        ends.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::StagedDevice;

    #[test]
    fn every_chunk_is_copied_once_whatever_lanes_and_slots_there_are() {
        for (lanes, slot_bytes, chunk_bytes) in [(1, 7, 7), (3, 16, 5), (2, 4, 100)] {
            let device = StagedDevice::new(lanes, slot_bytes);
            let count = |start: usize, chunk: &mut [u8]| {
                assert!(chunk.len() <= slot_bytes.min(chunk_bytes));
                chunk
                    .iter_mut()
                    .zip(start..)
                    .for_each(|(byte, at)| *byte = at as u8);
                Ok::<_, DeviceError>(())
            };
            let group = bring(&device, 100, chunk_bytes, count).unwrap();
            let expected: Vec<u8> = (0..100).collect();
            assert_eq!(group.as_host(), Some(&expected[..]));
            assert_eq!(
                device.copies(),
                100usize.div_ceil(slot_bytes.min(chunk_bytes))
            );
            assert_eq!(device.free_lanes(), lanes);
            let device = StagedDevice::new(lanes, slot_bytes).failing_at(1);
            let failed = bring(&device, 100, chunk_bytes, count);
            assert!(matches!(failed, Err(DeviceError::Failed { .. })));
            assert_eq!((device.live_groups(), device.free_lanes()), (0, lanes));
        }
    }
}
