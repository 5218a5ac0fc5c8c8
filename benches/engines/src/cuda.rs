//! tensorlift to a GPU, and the limit of the bus.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tensorlift::cuda::{CudaBuffer, CudaDevice, Gds};
use tensorlift::{Checkpoint, Device, LoadOptions, LoadReport, Reader};
use tensorlift_bench_protocol::{Request, Result, forget_peak, measure};
use tensorlift_device::{CopyRun, Destination, Group, GroupRequest};
use tensorlift_storage::{FileStorage, ReaderKind, Storage, StorageExt, os};

use crate::{facade, raw};

/// How often the device is asked for its free memory: seldom enough not to be felt.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// The parts in which pinned memory is copied to find the limit.
const LIMIT_SLOT_BYTES: usize = 32 << 20;

/// A way to a GPU, as the definitions of engines call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    reader: Reader,
    gds: Gds,
}

impl Setting {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (reader, gds) = match name {
            "cuda" => (Reader::Auto, Gds::Auto),
            "cuda-buffered" => (Reader::Buffered, Gds::Off),
            "cuda-direct" => (Reader::Direct, Gds::Off),
            "cuda-uring" => (Reader::Uring, Gds::Off),
            "cuda-gds" => (Reader::Auto, Gds::On),
            _ => return None,
        };
        Some(Self { reader, gds })
    }
}

/// Loads to the first GPU; the clock runs from before the driver starts.
pub(crate) fn run(request: &Request, setting: Setting) -> Result<()> {
    let load = || {
        let clock = Instant::now();
        // As little as there can be, so that the driver's start shows apart from pinning.
        let driver = CudaDevice::options(0).gds(Gds::Off).build()?;
        let start_up = clock.elapsed();
        // What the driver itself takes is not the load's.
        let resident = os::memory().resident;
        forget_peak();
        let watch = Watch::start(driver)?;

        let options = CudaDevice::options(0).gds(setting.gds);
        let device = options.build()?;
        let checkpoint = Checkpoint::open(&request.path)?;
        let options = LoadOptions::default().reader(setting.reader);
        let loader = checkpoint.loader().options(options).place_on(device);
        let loaded = loader.load()?;
        let device_growth = watch.stop()?;
        Ok((loaded, start_up, resident, device_growth))
    };
    measure(request, load, |loaded, checksum, outcome| {
        let (loaded, start_up, resident, device_growth) = loaded;
        let mut bytes = Vec::new();
        for tensor in loaded {
            let buffer = CudaBuffer::of(&**tensor.group()).ok_or("a tensor is not on the GPU")?;
            bytes.resize(tensor.span_bytes(), 0);
            buffer.read(tensor.offset(), &mut bytes)?;
            checksum.tensor(tensor.name(), &bytes);
        }
        outcome.phases = vec![facade::phase("start-up", *start_up)];
        outcome.phases.extend(facade::phases(loaded.report()));
        outcome.note = note(loaded.report());
        outcome.resident_before = *resident;
        outcome.device_growth = Some(*device_growth);
        Ok(())
    })
}

/// The readers that ran, and what the device read itself or refused to.
fn note(report: &LoadReport) -> String {
    let mut note = facade::readers(report);
    if report.files.iter().any(|file| file.pulled_by_device) {
        note += ", by the device itself";
    }
    let refused = report.files.iter().flat_map(|file| &file.refused);
    if let Some(other) = refused
        .into_iter()
        .find(|other| other.reader == ReaderKind::Other("device"))
    {
        note += &format!(" (not by the device: {})", other.why);
    }
    note
}

/// Copies the files from memory that is pinned and filled before the clock: nothing that comes
/// over the bus can be faster.
pub(crate) fn pinned_copy(request: &Request) -> Result<()> {
    let load = || {
        let mut files = Vec::new();
        for path in request.files()? {
            files.push((path.clone(), FileStorage::open(path)?));
        }
        copy_all(&files)
    };
    measure(request, load, |(group, seconds), checksum, outcome| {
        outcome.seconds = *seconds;
        let buffer = CudaBuffer::of(&**group).ok_or("the group is not on the GPU")?;
        let bytes = buffer.to_host()?;
        let (mut files, mut rest) = (Vec::new(), &bytes[..]);
        for path in request.files()? {
            let len = usize::try_from(path.metadata()?.len())?;
            let (file, after) = rest.split_at(len);
            files.push((path, file));
            rest = after;
        }
        raw::sum(
            request,
            files.iter().map(|(path, file)| (path, *file)),
            checksum,
        )
    })
}

/// The files one after another in one group, and how long the copies took.
fn copy_all(files: &[(PathBuf, FileStorage)]) -> Result<(Box<dyn Group>, f64)> {
    let chunks: Vec<(&FileStorage, u64, usize)> = files
        .iter()
        .flat_map(|(_, file)| {
            let starts = (0..file.len()).step_by(LIMIT_SLOT_BYTES);
            let len = |start: u64| (file.len() - start).min(LIMIT_SLOT_BYTES as u64) as usize;
            starts.map(move |start| (file, start, len(start)))
        })
        .collect();
    let bytes = chunks.iter().map(|(_, _, len)| len).sum();
    let device = CudaDevice::options(0)
        .lanes(chunks.len())
        .slot_bytes(LIMIT_SLOT_BYTES)
        .build()?;
    let mut group = device.allocate(&GroupRequest::new(bytes))?;
    let Destination::Staged(staging) = group.destination() else {
        return Err("the GPU has no staging buffers".into());
    };
    let mut filled = Vec::new();
    let mut to = 0;
    for (file, start, len) in chunks {
        let mut lane = staging.lane()?;
        file.read_exact_at(start, lane.slot(len)?)?;
        filled.push((lane, CopyRun { from: 0, to, len }));
        to += len;
    }
    let clock = Instant::now();
    for (lane, run) in &mut filled {
        lane.copy(&[*run])?;
    }
    drop(filled);
    group.finish()?;
    Ok((group, clock.elapsed().as_secs_f64()))
}

/// Looks at the device's free memory while a load runs.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Watch {
    fn start(device: CudaDevice) -> Result<Self> {
        let before = device.free_bytes()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut least = before;
            loop {
                // Looked at once more after the end: short loads are over before the second look.
                let last = stopped.load(Ordering::Acquire);
                least = least.min(device.free_bytes()?);
                if last {
                    return Ok(before - least);
                }
                thread::park_timeout(ASK_EVERY);
            }
        });
        Ok(Self { stop, thread })
    }

    /// The most memory that was taken since.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().map_err(|_| "the watch panicked")?
    }
}
