//! Executing a plan.
//!
//! The plain algorithm:
//!
//! ```text
//! for each group of the plan: allocate it
//! for each segment of the plan:
//!     read its extent from its shard into its place in its group
//! for each group: wait until its bytes are there
//! ```
//!
//! The departures from it, each with its reason:
//!
//! 1. Segments are cut into chunks that threads take from one queue (`cut`, `workers`): one thread
//!    saturates neither disks nor memory.
//! 2. Chunks end at multiples of the chunk size in their group (`cut`): two threads that first
//!    touch one huge page both fill it with zeros.
//! 3. Small neighbours are read together and copied to their places (`cut`, `run`): a system call
//!    costs more than the copy. Bytes with several targets are read once for the same reason.
//! 4. A few shards are read at a time, chunk by chunk (`cut`): the disk is busy while one of them
//!    ends.
//! 5. A shard is opened at its first chunk and closed after its last (`open_shard`): a thousand
//!    shards are more than a process may have open.
//! 6. The reader of a shard depends on what of it is in the page cache (`reader`): copying from
//!    there is fastest, and past it is faster than through it.
//! 7. Bytes that direct reads cannot land in place go through scratch memory (`tools`, `scratch`):
//!    the page cache stays as it was.
//! 8. The number of threads follows measured rates (`pace`): storage differs too much for one
//!    number. Where the system refuses threads, those that run go on, down to the caller's.
//! 9. A device may read chunks itself (`staged`): its path may bypass host memory.
//! 10. Checksums and hashes are computed chunk by chunk (`verify`, `hash`): the bytes are still in
//!     the processor's cache.

mod checks;
mod chunk;
mod cut;
mod deliver;
mod execution;
mod failure;
mod hash;
mod lane;
mod mapped;
mod open_shard;
mod pace;
mod page_cache;
mod progress;
mod reader;
mod run;
mod scratch;
mod staged;
mod tools;
mod verify;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorlift_device::{Destination, Device, Group};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind};
use tracing::info_span;

use crate::control::Control;
use crate::hash::HashRange;
use crate::options::LoadOptions;
use crate::plan::Plan;
use crate::report::{Counts, FileReport, KeptTensor, LoadReport, Phases};
use crate::shard::Shard;
use execution::Execution;

pub use reader::probe;

/// The memory of a plan, filled.
#[derive(Debug)]
#[non_exhaustive]
pub struct Filled {
    /// The groups, as [`Plan::groups`] lists them.
    pub groups: Vec<Box<dyn Group>>,
    /// How they were filled.
    pub outcome: Outcome,
}

/// How the groups of a plan were filled.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// The phases that ran: allocate, read, finish.
    pub phases: Phases,
    /// What was counted.
    pub counts: Counts,
    /// How each shard was read.
    pub files: Vec<FileReport>,
}

/// Why memory was not filled, and which parts of it may have changed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FillError {
    /// The failure.
    pub error: Error,
    /// The groups of which bytes may have been overwritten, by position in [`Plan::groups`]; all
    /// others are as they were.
    pub touched: Vec<usize>,
}

/// Executes a plan; when it returns, every byte is in place.
///
/// `catalog` must be the one that the plan was made from; its extents and groups refer to `shards`
/// and `devices` by position.
///
/// # Errors
/// The first failure of any thread, named by shard, tensor and byte range; a crossed memory
/// ceiling, before anything is allocated.
/// On any error, everything allocated is freed.
pub fn execute(
    plan: &Plan,
    catalog: &Catalog,
    shards: &[Shard],
    devices: &[Arc<dyn Device>],
    options: &LoadOptions,
    control: &Control,
) -> Result<Filled, Error> {
    let mut lap = stopwatch();
    check_memory(plan, devices, options)?;
    let bytes = plan.bytes_to_allocate();
    let mut run = Execution::begin(plan, catalog, shards, options, control, bytes)?;
    let mut groups =
        info_span!("allocate", groups = plan.groups.len()).in_scope(|| run.allocate(devices))?;
    let mut outcome = Outcome::default();
    outcome.phases.allocate = lap();

    let destinations = groups.iter_mut().map(|group| group.destination()).collect();
    outcome.counts = run.read(destinations)?;
    outcome.phases.read = lap();

    info_span!("finish").in_scope(|| groups.iter_mut().try_for_each(|group| group.finish()))?;
    outcome.files = run.files();
    outcome.phases.finish = lap();
    Ok(Filled { groups, outcome })
}

/// Hashes bytes of files, without loading anything: by the readers, threads and limits of a load.
///
/// The options' own [`hashes`](LoadOptions::hashes) are not used.
///
/// # Errors
/// As [`execute`]; [`ErrorKind::Malformed`] for the first range whose hash is not the expected one.
pub fn hash_ranges(
    shards: &[Shard],
    ranges: impl Into<Arc<[HashRange]>>,
    options: &LoadOptions,
    control: &Control,
) -> Result<Outcome, Error> {
    let options = options.clone().hashes(ranges);
    let catalog = Catalog::builder().finish();
    let plan = Plan::default();
    let filled = execute(&plan, &catalog, shards, &[], &options, control)?;
    Ok(filled.outcome)
}

/// Reads the segments of a plan into memory that the caller holds, one destination for each group.
///
/// A host destination must be as long as its group. Behind staging slots, the caller finishes
/// the group afterwards.
///
/// # Errors
/// As [`execute`], and [`ErrorKind::Misuse`] if the destinations do not fit the plan, before a
/// byte is read.
pub fn fill(
    plan: &Plan,
    catalog: &Catalog,
    shards: &[Shard],
    destinations: Vec<Destination<'_>>,
    options: &LoadOptions,
    control: &Control,
) -> Result<Outcome, FillError> {
    let mut lap = stopwatch();
    let begun = check_destinations(plan, &destinations)
        .and_then(|()| Execution::begin(plan, catalog, shards, options, control, 0));
    let untouched = |error| FillError {
        error,
        touched: Vec::new(),
    };
    let mut run = begun.map_err(untouched)?;
    let counts = run.read(destinations).map_err(|error| FillError {
        error,
        touched: run.touched(),
    })?;
    let mut outcome = Outcome {
        counts,
        files: run.files(),
        ..Outcome::default()
    };
    outcome.phases.read = lap();
    Ok(outcome)
}

/// Rejects a load that cannot fit, before a byte is allocated.
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
        // The caller's limit replaces the estimate.
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

/// Rejects destinations that do not fit the groups.
fn check_destinations(plan: &Plan, destinations: &[Destination<'_>]) -> Result<(), Error> {
    let misuse = |found: String| Err(Error::new(ErrorKind::Misuse, found));
    let (expected, found) = (plan.groups.len(), destinations.len());
    if expected != found {
        return misuse(format!("expected {expected} destinations, found {found}"));
    }
    for (index, (group, destination)) in plan.groups.iter().zip(destinations).enumerate() {
        if group.is_mapped() {
            return misuse(format!(
                "group {index} is a mapping, which cannot be filled"
            ));
        }
        if let Destination::Host(memory) = destination
            && memory.len() as u64 != group.bytes
        {
            let (expected, found) = (group.bytes, memory.len());
            return misuse(format!(
                "group {index} has {expected} bytes, its destination {found}"
            ));
        }
    }
    Ok(())
}

/// Returns the time since the last call, or since it was made.
fn stopwatch() -> impl FnMut() -> Duration {
    let mut clock = Instant::now();
    move || std::mem::replace(&mut clock, Instant::now()).elapsed()
}

impl Outcome {
    /// The report of an executed plan, made from `catalog`; the caller adds memory, devices, and
    /// the time that the other phases took.
    #[must_use]
    pub fn report(&self, plan: &Plan, catalog: &Catalog) -> LoadReport {
        let counts = &self.counts;
        let kept = plan.kept.iter().map(|position| {
            let entry = &catalog.entries()[*position];
            KeptTensor {
                name: entry.name().to_owned(),
                dtype: entry.dtype(),
            }
        });
        LoadReport {
            tensors: plan.places.len(),
            bytes_wanted: plan.bytes_wanted,
            bytes_read: counts.bytes_read,
            segments: plan.segments.len(),
            reads: counts.reads,
            groups: plan.groups.len(),
            threads: counts.threads,
            threads_refused: counts.threads_refused,
            steps: counts.steps.clone(),
            peak_staging_bytes: counts.peak_staging_bytes,
            bytes_over_bus: counts.bytes_over_bus,
            kept: kept.collect(),
            verified: counts.verified,
            hashed: counts.hashed.clone(),
            phases: self.phases,
            files: self.files.clone(),
            ..LoadReport::default()
        }
    }
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for FillError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<FillError> for Error {
    fn from(error: FillError) -> Self {
        error.error
    }
}
