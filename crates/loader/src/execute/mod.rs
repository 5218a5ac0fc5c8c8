//! Carrying a plan out: allocate, read with many threads, finish.

mod job;
mod lane;
mod mapped;
mod pace;
mod source;
mod verify;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Instant;

use tensorlift_device::{Device, DeviceError, Group, GroupRequest, Staging};
use tensorlift_storage::os;
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Extent};

use crate::budget::Share;
use crate::control::{Control, Progress};
use crate::options::{LoadOptions, Verify};
use crate::plan::{GroupMemory, Plan, PlannedGroup};
use crate::reader::warm_readers;
use crate::report::{Counts, FileReport, Phases};
use crate::shard::Shard;
use job::Job;
use lane::HeldLane;
use pace::{Pace, Wish};
use source::Source;
use verify::Sums;

/// Shards that are read at the same time, chunk by chunk in turn.
const SHARDS_AT_ONCE: usize = 4;
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
    /// How each shard was read.
    pub files: Vec<FileReport>,
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
    let share = options.shared_budget().memory(plan.bytes_to_allocate())?;
    let mut sources = sources(plan, shards, options);
    let mut groups = allocate(plan, &sources, devices)?;
    phases.allocate = lap();

    let counts = {
        let shards_at_once = share.open_shards(SHARDS_AT_ONCE.min(shards.len()));
        let destinations = groups.iter_mut().map(|group| group.destination()).collect();
        let jobs = job::split(plan, catalog, destinations, options, shards_at_once);
        for shard in jobs.iter().filter_map(Job::shard) {
            sources[shard.index()].add_job();
        }
        let sums = (options.verify == Verify::Crc32).then(|| Sums::new(catalog, plan));
        let run = Run::new(catalog, &sources, control, &share, sums.as_ref(), plan);
        let mut counts = read(jobs, run, options)?;
        if let Some(sums) = sums {
            let named = |error: Error| match error.extent() {
                Some(extent) => error.with_path(shards[extent.shard.index()].path()),
                None => error,
            };
            counts.verified = Some(sums.check(plan).map_err(named)?);
        }
        counts
    };
    phases.read = lap();

    for group in &mut groups {
        group.finish()?;
    }
    let files = sources.iter().map(Source::report).collect();
    phases.finish = lap();
    Ok(Filled {
        groups,
        phases,
        counts,
        files,
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
        let bytes = plan.bytes_on(position);
        if bytes > 0 {
            // The system counts memory as free until it is filled.
            device.reserve(bytes.saturating_add(options.shared_budget().unfilled()))?;
        }
    }
    Ok(())
}

fn sources<'a>(plan: &Plan, shards: &'a [Shard], options: &'a LoadOptions) -> Vec<Source<'a>> {
    let (wanted, readers) = (plan.bytes_of_shards(shards.len()), warm_readers(plan));
    let source = |(shard, wanted)| Source::new(shard, options, wanted, readers);
    shards.iter().zip(wanted).map(source).collect()
}

fn allocate(
    plan: &Plan,
    sources: &[Source<'_>],
    devices: &[Arc<dyn Device>],
) -> Result<Vec<Box<dyn Group>>, Error> {
    let allocate_one = |group: &PlannedGroup| match group.memory {
        GroupMemory::Device(device) => {
            let bytes = usize::try_from(group.bytes).unwrap_or(usize::MAX);
            let request = GroupRequest {
                bytes,
                dtype: group.dtype,
            };
            Ok::<_, Error>(devices[device].allocate(&request)?)
        }
        GroupMemory::Mapped(shard) => mapped::group(&sources[shard.index()]),
    };
    plan.groups.iter().map(allocate_one).collect()
}

/// Runs all jobs.
fn read(jobs: Vec<Job<'_>>, run: Run<'_>, options: &LoadOptions) -> Result<Counts, Error> {
    let staging = jobs.iter().filter_map(Job::staging);
    let staging = staging.map(|staging| staging.slots() * staging.slot_bytes());
    let staging = staging.max().unwrap_or(0) as u64;
    let (wished, wish) = match options.read_threads {
        Some(threads) => (threads.max(1), None),
        None if run.total <= ONE_THREAD_BYTES => (1, None),
        None => {
            let wish = run.first_wish(&jobs)?;
            (wish.threads, Some(wish))
        }
    };
    let most = jobs.len().min(lanes(&jobs)).max(1);
    let threads = run.share.threads(wished.min(most), staging);
    let queue = Queue {
        jobs: Mutex::new(jobs.into_iter()),
        pace: Pace::new(threads, most, wish, Instant::now()),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        staging,
    };
    run.work(&queue, threads)?;
    let (steps, threads) = queue.pace.finish();
    Ok(Counts {
        bytes_read: run.done.into_inner(),
        reads: run.reads.into_inner(),
        threads,
        peak_staging_bytes: staging * queue.most.into_inner() as u64,
        steps,
        verified: None,
    })
}

/// The most readers that lanes are there for; where the host is written to, there is no bound.
fn lanes(jobs: &[Job<'_>]) -> usize {
    let lanes = |job: &Job<'_>| job.staging().map_or(usize::MAX, Staging::lanes);
    jobs.iter().map(lanes).max().unwrap_or(usize::MAX)
}

/// Why a job stopped.
enum Failure {
    Read(io::Error),
    Device(DeviceError),
    /// A decoded record is not what the archive claims.
    Decode {
        expected: u64,
        found: u64,
    },
}

/// The jobs that are left, and how many threads there are for them.
struct Queue<'j> {
    jobs: Mutex<std::vec::IntoIter<Job<'j>>>,
    pace: Pace,
    running: AtomicUsize,
    /// The most threads that ran at once.
    most: AtomicUsize,
    /// Bytes of the staging slots that each thread needs.
    staging: u64,
}

impl<'j> Queue<'j> {
    fn jobs(&self) -> MutexGuard<'_, std::vec::IntoIter<Job<'j>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread that asks is one more than wanted; it counts no longer then.
    fn dismisses(&self, wanted: usize) -> bool {
        let left = |running: usize| (running > wanted.max(1)).then(|| running - 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.running.fetch_update(set, fetch, left).is_ok()
    }
}

/// What the reading threads share.
struct Run<'a> {
    catalog: &'a Catalog,
    sources: &'a [Source<'a>],
    control: &'a Control,
    share: &'a Share,
    sums: Option<&'a Sums<'a>>,
    total: u64,
    done: AtomicU64,
    reads: AtomicUsize,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl<'a> Run<'a> {
    fn new(
        catalog: &'a Catalog,
        sources: &'a [Source<'a>],
        control: &'a Control,
        share: &'a Share,
        sums: Option<&'a Sums<'a>>,
        plan: &Plan,
    ) -> Self {
        Self {
            catalog,
            sources,
            control,
            share,
            sums,
            total: plan.bytes_to_read,
            done: AtomicU64::new(0),
            reads: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failed: Mutex::new(None),
        }
    }

    /// What the first shard likes, and those that are open already, as mappings are.
    fn first_wish(&self, jobs: &[Job<'_>]) -> Result<Wish, Error> {
        if let Some(shard) = jobs.iter().find_map(Job::shard) {
            let source = &self.sources[shard.index()];
            source.storage(|_| {}).map_err(|error| {
                Error::new(ErrorKind::Storage, error).with_path(source.shard().path())
            })?;
        }
        let wishes = self.sources.iter().filter_map(Source::wish);
        Ok(wishes.fold(Wish::NONE, Wish::or))
    }

    /// Runs all jobs; returns the first error.
    fn work(&self, queue: &Queue<'_>, threads: usize) -> Result<(), Error> {
        std::thread::scope(|scope| match threads {
            1 => {
                queue.running.fetch_add(1, Ordering::Relaxed);
                self.work_off(scope, queue);
            }
            // This thread only waits: others often begin on the processor of the one that started
            // them, and would wait there until it has nothing to do.
            _ => self.spawn(scope, queue, threads),
        });
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take().map_or(Ok(()), Err)
    }

    fn spawn<'s>(&'s self, scope: &'s Scope<'s, '_>, queue: &'s Queue<'_>, threads: usize) {
        // All at once: the first may end a job before the last is started.
        queue.running.fetch_add(threads, Ordering::Relaxed);
        for _ in 0..threads {
            scope.spawn(move || self.work_off(scope, queue));
        }
    }

    /// Runs jobs until none is left, or until there are threads enough without this one.
    fn work_off<'s>(&'s self, scope: &'s Scope<'s, '_>, queue: &'s Queue<'_>) {
        queue
            .most
            .fetch_max(queue.running.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut lane = HeldLane::default();
        while let Some(job) = self.next(queue) {
            let bytes = job.bytes_read();
            if let Err(error) = self.run(job, &queue.pace, &mut lane) {
                self.stop.store(true, Ordering::Relaxed);
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                break;
            }
            lane.yield_if_wanted();
            let wanted = queue.pace.record(bytes, Instant::now());
            if queue.dismisses(wanted) {
                return;
            }
            let missing = wanted.saturating_sub(queue.running.load(Ordering::Relaxed));
            if missing > 0 {
                let more = missing.min(queue.jobs().len());
                let granted = self.share.threads(more, queue.staging);
                if granted < more {
                    queue.pace.cap(wanted - missing + granted);
                }
                self.spawn(scope, queue, granted);
            }
        }
        queue.running.fetch_sub(1, Ordering::Relaxed);
    }

    fn next<'j>(&self, queue: &Queue<'j>) -> Option<Job<'j>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        queue.jobs().next()
    }

    fn run<'j>(&self, job: Job<'j>, pace: &Pace, lane: &mut HeldLane<'j>) -> Result<(), Error> {
        if self.control.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
        }
        let (extent, bytes, len) = (job.extent(), job.bytes_read(), job.len());
        let source = extent.map(|extent| &self.sources[extent.shard.index()]);
        let opened = |wish| pace.widen(wish, Instant::now());
        let storage = source.map(|source| source.storage(opened));
        let pull = storage
            .transpose()
            .map_err(Failure::Read)
            .and_then(|storage| job.run(storage.as_deref(), self.sums, lane))
            .map_err(|failure| self.explain(failure, extent))?;
        if let Some(source) = source {
            source.pulled(pull);
            source.job_done()?;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.share.filled(len);
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
            Failure::Read(error) if os::is_out_of_files(&error) => {
                Error::new(ErrorKind::Storage, error)
                    .with_remedy("allow more open files (ulimit -n), or fewer shards open at once")
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
        let touches = |entry: &&Entry| {
            let other = entry.extent();
            other.shard == extent.shard
                && other.offset < extent.end()
                && extent.offset < other.end()
        };
        let path = self.sources[extent.shard.index()].shard().path();
        let error = error.with_path(path).with_extent(extent);
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
