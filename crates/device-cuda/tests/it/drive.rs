//! The least that a loader does: threads that borrow a lane, fill its slots, and copy.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tensorlift_device::{
    CopyRun, Destination, Device, DeviceError, Group, GroupRequest, Lane, Pull, Pulled, Staging,
};
use tensorlift_device_cuda::{CudaBuffer, CudaDevice, CudaOptions};

/// A device that tests can afford: few, small slots.
pub(crate) fn options(ordinal: usize) -> CudaOptions {
    CudaDevice::options(ordinal).lanes(2).slot_bytes(8192)
}

/// One read and where its bytes go.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The first byte in the source.
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) runs: Vec<CopyRun>,
}

/// Chunks that bring `len` bytes to the same places in the group.
pub(crate) fn straight(len: usize, chunk: usize) -> Vec<Chunk> {
    let starts = (0..len).step_by(chunk);
    starts
        .map(|offset| {
            let len = chunk.min(len - offset);
            let (from, to) = (0, offset);
            let runs = vec![CopyRun { from, to, len }];
            Chunk { offset, len, runs }
        })
        .collect()
}

/// What a group holds once the chunks are in it; `None` where none of them writes.
pub(crate) fn expected(source: &[u8], chunks: &[Chunk], len: usize) -> Vec<Option<u8>> {
    let mut bytes = vec![None; len];
    for chunk in chunks {
        for run in &chunk.runs {
            for i in 0..run.len {
                bytes[run.to + i] = Some(source[chunk.offset + run.from + i]);
            }
        }
    }
    bytes
}

pub(crate) fn agrees(found: &[u8], expected: &[Option<u8>]) -> bool {
    found.len() == expected.len()
        && (found.iter().zip(expected)).all(|(a, b)| b.is_none_or(|b| *a == b))
}

/// Bytes without a pattern that a displaced copy could hide in.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// How a load goes about it.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) threads: usize,
    /// The file that the device may read by itself.
    pub(crate) file: Option<&'a File>,
    /// Stops before this chunk.
    pub(crate) stop_at: usize,
}

impl Default for Manner<'_> {
    fn default() -> Self {
        Self {
            threads: 3,
            file: None,
            stop_at: usize::MAX,
        }
    }
}

/// Allocates a group and fills it; not finished where it was told to stop.
pub(crate) fn fill(
    device: &dyn Device,
    source: &[u8],
    chunks: &[Chunk],
    len: usize,
    manner: Manner<'_>,
) -> Result<Box<dyn Group>, DeviceError> {
    let dtype = None;
    device.reserve(len as u64)?;
    let mut group = device.allocate(&GroupRequest::new(len).dtype(dtype))?;
    let Destination::Staged(staging) = group.destination() else {
        panic!("CUDA groups are staged");
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut held = None;
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(chunk) = chunks.get(number).filter(|_| number < manner.stop_at) else {
                return Ok(());
            };
            bring(staging, &mut held, source, chunk, manner.file)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..manner.threads).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|t| t.join().expect("no panic"));
        // All are joined before the first error is looked at.
        results
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<(), _>>()
    })?;
    if manner.stop_at > chunks.len() {
        group.finish()?;
    }
    Ok(group)
}

fn bring<'a>(
    staging: &'a dyn Staging,
    held: &mut Option<Box<dyn Lane + 'a>>,
    source: &[u8],
    chunk: &Chunk,
    file: Option<&File>,
) -> Result<(), DeviceError> {
    if let Some(file) = file.filter(|_| staging.pulls()) {
        let pull = Pull::new(file, chunk.offset as u64, chunk.len, &chunk.runs);
        if staging.pull(&pull)? == Pulled::Done {
            return Ok(());
        }
    }
    let lane = match held.take() {
        Some(lane) => lane,
        None => staging.lane()?,
    };
    let lane = held.insert(lane);
    let bytes = &source[chunk.offset..][..chunk.len];
    lane.slot(chunk.len)?.copy_from_slice(bytes);
    lane.copy(&chunk.runs)?;
    if lane.is_wanted() {
        *held = None;
    }
    Ok(())
}

/// The finished memory of a group.
pub(crate) fn buffer(group: &dyn Group) -> CudaBuffer {
    CudaBuffer::of(group).expect("a finished group of a CUDA device")
}

/// Loads bytes straight and reads them back.
pub(crate) fn round_trip(device: &dyn Device, source: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let chunks = straight(source.len(), 8192);
    let group = fill(device, source, &chunks, source.len(), Manner::default())?;
    buffer(group.as_ref()).to_host()
}
