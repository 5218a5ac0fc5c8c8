//! tensorlift to a GPU, and the limits of the machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tensorlift::cuda::{CudaBuffer, CudaDevice, Gds};
use tensorlift::{Checkpoint, Device, Error, ErrorKind, LoadOptions, LoadReport, Loaded, Reader};
use tensorlift_bench_protocol::{Checksum, Request, Result, measure};
use tensorlift_device::measure::bring;
use tensorlift_device::{CopyRun, Destination, Group, GroupRequest};
use tensorlift_storage::measure::Joined;
use tensorlift_storage::{FileStorage, ReaderKind, Storage, StorageExt, os};

use crate::{facade, raw};

/// How often the device is asked for its free memory.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// The parts in which pinned memory is copied to find the limit.
const LIMIT_SLOT_BYTES: usize = 64 << 20;
/// The chunks of the bare pipeline.
const PIPELINE_BYTES: usize = 2 << 20;

/// A way to a GPU, as the definitions of engines call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    reader: Reader,
    gds: Gds,
}

impl Setting {
    /// As tensorlift comes.
    const DEFAULT: Self = Self {
        reader: Reader::Auto,
        gds: Gds::Auto,
    };

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

/// Loads to the first GPU, from nothing and again; nothing else runs meanwhile.
pub(crate) fn run(request: &Request, setting: Setting) -> Result<()> {
    let start = || {
        let device = CudaDevice::options(0).gds(setting.gds).build()?;
        let loaded = load(request, setting, &device)?;
        Ok((device, loaded))
    };
    measure(request, start, |(device, loaded), checksum, outcome| {
        sum(loaded, checksum)?;
        let report = device.report()?;
        outcome.phases = vec![
            facade::phase("start-up", report.opening),
            facade::phase("pinning", report.pinning),
        ];
        outcome.phases.extend(facade::phases(loaded.report()));
        outcome.note = note(loaded.report());
        outcome.pinned = Some(report.pinned_bytes);
        let clock = Instant::now();
        let _again = load(request, setting, device)?;
        outcome.again = Some(clock.elapsed().as_secs_f64());
        Ok(())
    })
}

/// Watches how much memory of the device a load takes; its time says nothing.
pub(crate) fn watch(request: &Request, setting: Setting) -> Result<()> {
    let start = || {
        let device = CudaDevice::options(0).gds(setting.gds).build()?;
        device.wait()?;
        // What the driver itself takes is not the load's.
        let resident = os::memory().resident;
        let watch = Watch::start(device.clone())?;
        let loaded = load(request, setting, &device)?;
        Ok((loaded, resident, watch.stop()?))
    };
    measure(
        request,
        start,
        |(loaded, resident, growth), checksum, outcome| {
            outcome.resident_before = *resident;
            outcome.device_growth = Some(*growth);
            sum(loaded, checksum)
        },
    )
}

/// The driver's start alone: what no load of a fresh process can do without.
pub(crate) fn start_alone(request: &Request) -> Result<()> {
    let start = || {
        let device = CudaDevice::new(0)?;
        device.wait()?;
        Ok(device)
    };
    measure(request, start, |device, checksum, _| {
        let setting = Setting::DEFAULT;
        sum(&load(request, setting, device)?, checksum)
    })
}

fn load(request: &Request, setting: Setting, device: &CudaDevice) -> Result<Loaded> {
    let checkpoint = Checkpoint::open(&request.path)?;
    let options = LoadOptions::default().reader(setting.reader);
    let loader = checkpoint.loader().options(options);
    Ok(loader.place_on(device.clone()).load()?)
}

fn sum(loaded: &Loaded, checksum: &mut Checksum) -> Result<()> {
    let mut bytes = Vec::new();
    for tensor in loaded {
        let buffer = CudaBuffer::of(&**tensor.group()).ok_or("a tensor is not on the GPU")?;
        bytes.resize(tensor.span_bytes(), 0);
        buffer.read(tensor.offset(), &mut bytes)?;
        checksum.tensor(tensor.name(), &bytes);
    }
    Ok(())
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
        sum_files(request, &**group, checksum)
    })
}

/// Reads into pinned slots, copies, and nothing else: what a load can be held against. The clock
/// runs from before the driver starts; the second time it is warm.
pub(crate) fn pipeline(request: &Request) -> Result<()> {
    let start = || {
        let device = CudaDevice::options(0).slot_bytes(PIPELINE_BYTES).build()?;
        let group = bring_all(request, &device)?;
        Ok((device, group))
    };
    measure(request, start, |(device, group), checksum, outcome| {
        sum_files(request, &**group, checksum)?;
        outcome.pinned = Some(device.report()?.pinned_bytes);
        let clock = Instant::now();
        let _again = bring_all(request, device)?;
        outcome.again = Some(clock.elapsed().as_secs_f64());
        Ok(())
    })
}

fn bring_all(request: &Request, device: &CudaDevice) -> Result<Box<dyn Group>> {
    let files = Joined::open(&request.files()?, false)?;
    let fill = |start: usize, slot: &mut [u8]| -> tensorlift::Result<()> {
        let read = files.read_exact_at(start as u64, slot);
        read.map_err(|error| Error::new(ErrorKind::Storage, error))
    };
    Ok(bring(
        device,
        usize::try_from(files.len())?,
        PIPELINE_BYTES,
        fill,
    )?)
}

/// Sums up the tensors of files that lie in a group one after another.
fn sum_files(request: &Request, group: &dyn Group, checksum: &mut Checksum) -> Result<()> {
    let buffer = CudaBuffer::of(group).ok_or("the group is not on the GPU")?;
    let bytes = buffer.to_host()?;
    let (mut files, mut rest) = (Vec::new(), &bytes[..]);
    for path in request.files()? {
        let len = usize::try_from(path.metadata()?.len())?;
        let (file, after) = rest.split_at(len);
        files.push((path, file));
        rest = after;
    }
    let files = files.iter().map(|(path, file)| (path, *file));
    raw::sum(request, files, checksum)
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
    // A lane for each part, held until all are filled: made for as many bytes as they have slots.
    let slot = chunks.iter().map(|(_, _, len)| *len).max().unwrap_or(1);
    let slot = slot.next_multiple_of(4096);
    let options = CudaDevice::options(0).lanes(chunks.len());
    let device = options.slot_bytes(slot).build()?;
    device.reserve((2 * slot * chunks.len()) as u64)?;
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
