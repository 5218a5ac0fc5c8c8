//! What a GPU's machine can do at best: the figures that loads are to be held against.
//!
//! ```text
//! cargo run --release -p tensorlift-device-cuda --example limits -- [GIB] [FILE]
//! ```
//!
//! It prints what opening and pinning cost, the bandwidth of pinned copies for several numbers of
//! streams and sizes of buffers, and, given a file, the bandwidth of bringing it over by reads into
//! the ring, by registering its mapping, and by cuFile.
//! Run the file cases twice: first with a cold page cache, then with a warm one.

// The registered mapping is no part of the crate: it is measured here to know whether it should be.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tensorlift_device::{
    CopyRun, Destination, Device, DeviceError, Group, GroupRequest, Pull, Pulled, Staging,
};
use tensorlift_device_cuda::cudarc::driver::{CudaContext, result, sys};
use tensorlift_device_cuda::{CudaDevice, Gds};
use tensorlift_storage::{FileStorage, MapStorage, Storage};

const MIB: usize = 1 << 20;
const THREADS: usize = 8;
const CHUNK: usize = 4 * MIB;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let gib: f64 = arguments.next().map_or(Ok(4.0), |text| text.parse())?;
    let bytes = (gib * f64::from(1 << 30)) as usize;
    let path = arguments.next();

    let begun = Instant::now();
    let device = CudaDevice::new(0)?;
    println!("opened in {:.1?}: {}", begun.elapsed(), device.report());
    println!("{} bytes free", device.free_bytes()?);
    for turn in ["first", "second"] {
        let begun = Instant::now();
        drop(allocate(&device, bytes)?);
        println!("{turn} allocation of {gib} GiB: {:.1?}", begun.elapsed());
    }
    drop(device);

    for streams in [1, 2, 4] {
        for buffer in [1, 4, 8, 16] {
            let options = CudaDevice::options(0).streams(streams);
            let options = options.buffer_bytes(buffer * MIB).gds(Gds::Off);
            let device = options.build()?;
            let copied = bring(&device, bytes, buffer * MIB, &copy_only)?;
            show(
                &format!("pinned copy, {streams} streams, {buffer} MiB"),
                bytes,
                copied,
            );
        }
    }
    if let Some(path) = path {
        file_cases(&path)?;
    }
    Ok(())
}

fn file_cases(path: &str) -> Outcome<()> {
    let storage = FileStorage::open(path)?;
    let bytes = usize::try_from(storage.len())?;
    let read = |staging: &dyn Staging, run: CopyRun| {
        let mut buffer = staging.take(run.len)?;
        let read = storage.read_exact_at(run.to as u64, buffer.bytes());
        read.map_err(|error| failed(error.to_string()))?;
        buffer.copy(&[run])
    };
    let device = CudaDevice::options(0).gds(Gds::Off).build()?;
    show(
        "reads into the ring",
        bytes,
        bring(&device, bytes, CHUNK, &read)?,
    );

    match registered(path, bytes) {
        Ok(time) => show("registered mapping", bytes, time),
        Err(error) => println!("registered mapping: {error}"),
    }

    let file = File::open(path)?;
    let pull = |staging: &dyn Staging, run: CopyRun| {
        let pull = Pull {
            file: &file,
            offset: run.to as u64,
            len: run.len,
            runs: &[run],
        };
        match staging.pull(&pull)? {
            Pulled::Refused(reason) => Err(failed(reason.into_owned())),
            _ => Ok(()),
        }
    };
    let device = CudaDevice::options(0).gds(Gds::On).build()?;
    match bring(&device, bytes, CHUNK, &pull) {
        Ok(time) => show("cuFile", bytes, time),
        Err(error) => println!("cuFile: {error:?}"),
    }
    Ok(())
}

/// What a thread does with one chunk, which goes to the same place as in the source.
type Step<'a> = dyn Fn(&dyn Staging, CopyRun) -> Result<(), DeviceError> + Sync + 'a;

fn copy_only(staging: &dyn Staging, run: CopyRun) -> Result<(), DeviceError> {
    staging.take(run.len)?.copy(&[run])
}

/// Fills a group by chunks, and times it from the first one to the last byte on the device.
fn bring(device: &CudaDevice, bytes: usize, chunk: usize, step: &Step<'_>) -> Outcome<Duration> {
    let mut group = allocate(device, bytes)?;
    let Destination::Staged(staging) = group.destination() else {
        return Err("CUDA groups are staged".into());
    };
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let to = next.fetch_add(chunk, Ordering::Relaxed);
            if to >= bytes {
                return Ok(());
            }
            let len = chunk.min(bytes - to);
            step(staging, CopyRun { from: 0, to, len })?;
        }
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|t| t.join().expect("no panic"));
        ends.collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<(), DeviceError>>()
    })?;
    group.finish()?;
    Ok(begun.elapsed())
}

/// Registers the mapping of a file piece by piece, and copies from it.
fn registered(path: &str, bytes: usize) -> Outcome<Duration> {
    let map = MapStorage::open(path)?;
    let map = map.as_slice().ok_or("no mapping")?;
    let context = CudaContext::new(0)?;
    let stream = context.new_stream()?;
    // SAFETY: nothing is read of the memory.
    let target = unsafe { stream.alloc::<u8>(bytes) }?.leak();
    let begun = Instant::now();
    let mut outcome = Ok(());
    for (index, piece) in map.chunks(CHUNK).enumerate() {
        let start = piece.as_ptr().cast_mut().cast();
        let flags = sys::CU_MEMHOSTREGISTER_READ_ONLY;
        // SAFETY: the mapping outlives the registration, and the copy, which is waited for.
        outcome = unsafe {
            sys::cuMemHostRegister_v2(start, piece.len(), flags)
                .result()
                .and_then(|()| {
                    let to = target + (index * CHUNK) as u64;
                    let copied = result::memcpy_htod_async(to, piece, stream.cu_stream());
                    let waited = stream.synchronize();
                    sys::cuMemHostUnregister(start)
                        .result()
                        .and(copied)
                        .and(waited)
                })
        };
        if outcome.is_err() {
            break;
        }
    }
    let time = begun.elapsed();
    // SAFETY: leaked above, and no copy is under way.
    drop(unsafe { stream.upgrade_device_ptr::<u8>(target, bytes) });
    Ok(outcome.map(|()| time)?)
}

fn allocate(device: &CudaDevice, bytes: usize) -> Result<Box<dyn Group>, DeviceError> {
    device.allocate(&GroupRequest { bytes, dtype: None })
}

fn failed(reason: String) -> DeviceError {
    DeviceError::Unavailable {
        device: "cuda:0".into(),
        reason,
    }
}

fn show(what: &str, bytes: usize, time: Duration) {
    let rate = bytes as f64 / time.as_secs_f64() / 1e9;
    println!("{what}: {rate:.2} GB/s ({bytes} bytes in {time:.1?})");
}
