//! Carrying a plan out: allocate, read with many threads, finish.

mod job;
mod mapped;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tensorlift_device::{Destination, Device, DeviceError, Group, GroupRequest};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Extent};

use crate::control::{Control, Progress};
use crate::options::LoadOptions;
use crate::plan::{GroupMemory, Plan, Segment, SegmentSource};
use crate::report::{Counts, Phases};
use crate::shard::Shard;
use job::Job;

/// Shards that are read at the same time, chunk by chunk in turn.
const SHARDS_AT_ONCE: u32 = 4;
/// Loads up to this size are over before a second thread has begun.
const ONE_THREAD_BYTES: u64 = 1 << 20;

/// The memory of a plan, filled.
#[derive(Debug)]
#[non_exhaustive]
pub struct Filled {
    /// The groups, as [`Plan::groups`] lists them.
    pub groups: Vec<Box<dyn Group>>,
    /// The phases that ran here: allocate, read, finish.
    pub phases: Phases,
    /// What was counted.
    pub counts: Counts,
}

/// Carries out a plan: when it returns, every byte is where it belongs.
///
/// `catalog` must be the one the plan was made of; `shards` and `devices` are named by position in
/// its extents and groups.
///
/// # Errors
/// The first failure of any thread, named by shard, tensor and byte range; a crossed memory
/// ceiling, before anything is allocated.
/// On any error nothing is handed out, and everything allocated is freed.
pub fn execute(
    plan: &Plan,
    catalog: &Catalog,
    shards: &[Shard],
    devices: &[Arc<dyn Device>],
    options: &LoadOptions,
    control: &Control,
) -> Result<Filled, Error> {
    let mut phases = Phases::default();
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();

    check_memory(plan, devices, options)?;
    let mut groups = allocate(plan, shards, devices)?;
    phases.allocate = lap();

    let counts = {
        let destinations = groups.iter_mut().map(|group| group.destination()).collect();
        let jobs = job::split(plan, catalog, shards, destinations, options);
        let run = Run {
            catalog,
            shards,
            control,
            total: plan.bytes_to_read,
            done: AtomicU64::new(0),
            reads: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        let threads = match plan.bytes_to_read {
            0..=ONE_THREAD_BYTES => 1,
            _ => options.read_threads.clamp(1, jobs.len().max(1)),
        };
        let chunks = jobs.len();
        let staging = jobs
            .iter()
            .filter_map(Job::staging_bytes)
            .max()
            .unwrap_or(0);
        run.work(jobs, threads)?;
        Counts {
            bytes_read: run.done.into_inner(),
            reads: run.reads.into_inner(),
            chunks,
            threads,
            peak_staging_bytes: (staging * threads) as u64,
        }
    };
    check_unchanged(plan, shards)?;
    phases.read = lap();

    for group in &mut groups {
        group.finish()?;
    }
    phases.finish = lap();
    Ok(Filled {
        groups,
        phases,
        counts,
    })
}

/// Refuses what cannot fit, before a byte is allocated.
fn check_memory(
    plan: &Plan,
    devices: &[Arc<dyn Device>],
    options: &LoadOptions,
) -> Result<(), Error> {
    let needed = plan.bytes_to_allocate();
    match options.memory_bytes {
        Some(limit) if needed > limit => {
            let found = format!("the tensors need {needed} bytes of memory, the limit is {limit}");
            return Err(Error::new(ErrorKind::LimitExceeded, found)
                .with_remedy("raise the limit, or select fewer tensors"));
        }
        // The caller knows better than any estimate.
        Some(_) => return Ok(()),
        None => {}
    }
    for (position, device) in devices.iter().enumerate() {
        device.reserve(plan.bytes_on(position))?;
    }
    Ok(())
}

fn allocate(
    plan: &Plan,
    shards: &[Shard],
    devices: &[Arc<dyn Device>],
) -> Result<Vec<Box<dyn Group>>, Error> {
    let allocate_one = |group: &crate::plan::PlannedGroup| match group.memory {
        GroupMemory::Device(device) => {
            let bytes = usize::try_from(group.bytes).unwrap_or(usize::MAX);
            let request = GroupRequest {
                bytes,
                dtype: group.dtype,
            };
            Ok::<_, Error>(devices[device].allocate(&request)?)
        }
        GroupMemory::Mapped(shard) => mapped::group(&shards[shard.index()]),
    };
    plan.groups.iter().map(allocate_one).collect()
}

/// Bytes of a file that was rewritten while it was read belong to no checkpoint.
fn check_unchanged(plan: &Plan, shards: &[Shard]) -> Result<(), Error> {
    let mut read = vec![false; shards.len()];
    for extent in plan.segments.iter().filter_map(Segment::extent) {
        read[extent.shard.index()] = true;
    }
    for (shard, _) in shards.iter().zip(read).filter(|(_, read)| *read) {
        let unchanged = shard
            .storage()
            .is_unchanged()
            .map_err(|error| Error::new(ErrorKind::Storage, error).with_path(shard.path()))?;
        if !unchanged {
            return Err(
                Error::new(ErrorKind::Storage, "the file changed while it was loaded")
                    .with_path(shard.path())
                    .with_remedy("load it again once nobody writes to it"),
            );
        }
    }
    Ok(())
}

/// Why a job stopped.
pub(crate) enum Failure {
    Read(io::Error),
    Device(DeviceError),
    /// A decoded record is not what the archive claims.
    Decode {
        expected: u64,
        found: u64,
    },
}

/// What the reading threads share.
struct Run<'a> {
    catalog: &'a Catalog,
    shards: &'a [Shard],
    control: &'a Control,
    total: u64,
    done: AtomicU64,
    reads: AtomicUsize,
    stop: AtomicBool,
}

impl Run<'_> {
    /// Runs all jobs on this thread and `threads - 1` more; returns the first error.
    fn work(&self, jobs: Vec<Job<'_>>, threads: usize) -> Result<(), Error> {
        let queue = Mutex::new(jobs.into_iter());
        let failed = Mutex::new(None);
        let work = || {
            while let Some(job) = self.next(&queue) {
                if let Err(error) = self.run(job) {
                    self.stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn next<'j>(&self, queue: &Mutex<std::vec::IntoIter<Job<'j>>>) -> Option<Job<'j>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        queue.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn run(&self, job: Job<'_>) -> Result<(), Error> {
        if self.control.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
        }
        let (extent, bytes) = (job.extent(), job.bytes_read());
        job.run().map_err(|failure| self.explain(failure, extent))?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let bytes_done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(progress) = &self.control.progress {
            progress(Progress {
                bytes_done,
                bytes_total: self.total,
            });
        }
        Ok(())
    }

    /// Names the shard, the tensor and the bytes at fault.
    fn explain(&self, failure: Failure, extent: Option<Extent>) -> Error {
        let error = match failure {
            Failure::Device(error) => Error::from(error),
            Failure::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::new(ErrorKind::Storage, error)
                    .with_remedy("the file was cut short while it was loaded: fetch it again")
            }
            Failure::Read(error) => Error::new(ErrorKind::Storage, error)
                .with_remedy("check the disk or the mount, then load again"),
            Failure::Decode { expected, found } => Error::new(
                ErrorKind::Malformed,
                format!("expected {expected} bytes once inflated, found {found}"),
            )
            .with_remedy("fetch the file again"),
        };
        let Some(extent) = extent else { return error };
        let touches = |entry: &&tensorlift_tensor_meta::Entry| {
            let other = entry.extent();
            other.shard == extent.shard
                && other.offset < extent.end()
                && extent.offset < other.end()
        };
        let error = error
            .with_path(self.shards[extent.shard.index()].path())
            .with_extent(extent);
        match self.catalog.entries().iter().find(touches) {
            Some(entry) => error.with_tensor(entry.name()),
            None => error,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Read(error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Failure::Device(error)
    }
}

/// The order in which jobs run: a few shards at once, each from its beginning.
fn turn(source: &SegmentSource, chunk: usize) -> (u32, usize, u32, u64) {
    match source {
        SegmentSource::Stored(extent) | SegmentSource::Deflated(extent) => {
            let shard = extent.shard.0;
            (
                shard / SHARDS_AT_ONCE,
                chunk,
                shard % SHARDS_AT_ONCE,
                extent.offset,
            )
        }
        SegmentSource::Inline(_) => (0, 0, 0, 0),
    }
}

/// Where a group's bytes are written while it is filled; mapped groups have nowhere.
type Destinations<'a> = Vec<Destination<'a>>;
