//! The threads that run chunks, and what they share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Instant;

use tensorlift_device::{Device, HostDevice, Staging};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Extent};

use super::checks::Checks;
use super::chunk::{Chunk, PullOutcome};
use super::failure::{Failure, with_place};
use super::hash::Hashes;
use super::lane::HeldLane;
use super::open_shard::OpenShard;
use super::pace::{Concurrency, Pace};
use super::progress::Tally;
use super::run::run;
use super::scratch::Scratch;
use super::tools::{Ran, Tools};
use super::verify::Sums;
use crate::budget::{Needs, Share};
use crate::control::Control;
use crate::options::LoadOptions;
use crate::report::Counts;

/// Loads up to this size are over before a second thread has started.
const ONE_THREAD_BYTES: u64 = 1 << 20;

/// The inputs of a load.
pub(super) struct Job<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) shards: &'a [OpenShard<'a>],
    pub(super) control: &'a Control,
    pub(super) options: &'a LoadOptions,
    pub(super) share: &'a Share,
    pub(super) sums: Option<&'a Sums<'a>>,
    pub(super) hashes: Option<&'a Hashes<'a>>,
    /// For each group, whether a byte of it may have been written.
    pub(super) touched: &'a [AtomicBool],
    pub(super) tally: Option<&'a Tally<'a>>,
    /// What the events of all threads belong to.
    pub(super) span: &'a tracing::Span,
}

/// Runs all chunks.
///
/// # Errors
/// The first failure of any thread; the others stop after the chunk they are at.
pub(super) fn run_all(chunks: Vec<Chunk<'_>>, job: &Job<'_>) -> Result<Counts, Error> {
    let total: u64 = chunks.iter().map(Chunk::bytes_read).sum();
    let stagings = || chunks.iter().flat_map(Chunk::stagings);
    let slot_bytes = |staging: &dyn Staging| (staging.slots() * staging.slot_bytes()) as u64;
    let staging_bytes = stagings().map(slot_bytes).max().unwrap_or(0);
    // More readers than lanes would wait for each other; a chunk without a lane needs none.
    let is_staged = |chunk: &Chunk<'_>| chunk.stagings().next().is_some();
    let lanes = match job.hashes {
        // Who waits to hash holds a lane, for which the one whose turn it is must not wait.
        Some(hashes) if hashes.is_ordered() => stagings().map(Staging::lanes).min(),
        _ if chunks.iter().all(is_staged) => stagings().map(Staging::lanes).max(),
        _ => None,
    };
    let (wanted, preferred) = match job.options.read_threads {
        Some(threads) => (threads.max(1), None),
        None if total <= ONE_THREAD_BYTES => (1, None),
        None => {
            let preferred = job.first_concurrency(&chunks)?;
            (preferred.threads, Some(preferred))
        }
    };
    let most = chunks.len().min(lanes.unwrap_or(usize::MAX)).max(1);
    let chunk_bytes = job.options.chunk_bytes as u64;
    let scratch = chunks.iter().map(|chunk| chunk.scratch_bytes(chunk_bytes));
    let needs = Needs {
        staging_bytes,
        scratch_bytes: scratch.max().unwrap_or(0),
    };
    job.check_scratch(needs.scratch_bytes)?;
    let threads = job.share.threads(wanted.min(most), needs);
    let crew = Crew {
        job,
        chunks: Mutex::new(chunks.into_iter()),
        pace: Pace::new(threads, most, preferred, Instant::now()),
        needs,
        counters: Counters::default(),
        stop: AtomicBool::new(false),
        failed: Mutex::new(None),
    };
    crew.work(threads)?;
    Ok(crew.counts())
}

impl Job<'_> {
    /// Rejects a load without memory for the scratch that one thread needs.
    fn check_scratch(&self, bytes: u64) -> Result<(), Error> {
        self.share.check_scratch(bytes)?;
        // The caller's limit replaces the estimate.
        if bytes > 0 && self.options.memory_bytes.is_none() {
            // The system counts memory as free until it is filled.
            let unfilled = self.options.shared_budget().unfilled();
            HostDevice::new().reserve(bytes.saturating_add(unfilled))?;
        }
        Ok(())
    }

    /// The preference of the first shard, and of shards that are open already, such as mappings.
    fn first_concurrency(&self, chunks: &[Chunk<'_>]) -> Result<Concurrency, Error> {
        if let Some(shard) = chunks.iter().find_map(Chunk::shard) {
            let shard = &self.shards[shard.index()];
            shard.storage(|_| {}).map_err(|error| {
                Failure::Read(error)
                    .into_error()
                    .with_path(shard.shard().path())
            })?;
        }
        let preferred = self.shards.iter().filter_map(OpenShard::concurrency);
        Ok(preferred.fold(Concurrency::ONE, Concurrency::max))
    }
}

/// The threads of one load and their queue.
struct Crew<'a, 'c> {
    job: &'a Job<'a>,
    chunks: Mutex<std::vec::IntoIter<Chunk<'c>>>,
    pace: Pace,
    /// What each thread needs.
    needs: Needs,
    counters: Counters,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Counters {
    running: AtomicUsize,
    /// The most threads that ran at once.
    most_running: AtomicUsize,
    /// Threads that could not be started.
    refused: AtomicUsize,
    chunks: AtomicUsize,
    bytes_read: AtomicU64,
    scratch_bytes: AtomicU64,
    bytes_over_bus: AtomicU64,
}

impl<'c> Crew<'_, 'c> {
    /// Runs all chunks with that many threads; returns the first error.
    fn work(&self, threads: usize) -> Result<(), Error> {
        std::thread::scope(|scope| {
            // The calling thread only waits: new threads often start on its processor, and would
            // wait there for it.
            let started = match threads {
                1 => 0,
                _ => self.start(scope, threads),
            };
            if started == 0 {
                self.counters.running.fetch_add(1, Ordering::Relaxed);
                self.take_chunks(scope);
            }
        });
        lock(&self.failed).take().map_or(Ok(()), Err)
    }

    /// Starts threads, as many as the system allows, and returns how many.
    fn start<'s>(&'s self, scope: &'s Scope<'s, '_>, threads: usize) -> usize {
        let running = &self.counters.running;
        // All at once: the first may end a chunk before the last is started.
        running.fetch_add(threads, Ordering::Relaxed);
        for started in 0..threads {
            let thread = Builder::new().spawn_scoped(scope, move || self.take_chunks(scope));
            if let Err(error) = thread {
                let refused = threads - started;
                let left = running.fetch_sub(refused, Ordering::Relaxed) - refused;
                self.counters.refused.fetch_add(refused, Ordering::Relaxed);
                self.pace.cap(left);
                tracing::warn!(%error, refused, "reading threads could not be started");
                return started;
            }
        }
        threads
    }

    /// Runs chunks until none is left, or until there are enough threads without this one.
    fn take_chunks<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let _entered = self.job.span.enter();
        let Counters {
            running,
            most_running,
            scratch_bytes,
            ..
        } = &self.counters;
        most_running.fetch_max(running.load(Ordering::Relaxed), Ordering::Relaxed);
        let (mut scratch, mut lane) = (Scratch::default(), HeldLane::default());
        let mut is_wanted = true;
        // Also where a caller's function panics.
        let _unblocking = Unblocking(self);
        while is_wanted && let Some(chunk) = self.next() {
            let bytes = chunk.bytes_read();
            if let Err(error) = self.run(chunk, &mut scratch, &mut lane) {
                lock(&self.failed).get_or_insert(error);
                self.stop();
                break;
            }
            lane.yield_if_wanted();
            let wanted = self.pace.record(bytes, Instant::now());
            is_wanted = !self.leaves(wanted);
            if is_wanted {
                self.grow(scope, wanted);
            }
        }
        if is_wanted {
            running.fetch_sub(1, Ordering::Relaxed);
        }
        scratch_bytes.fetch_add(scratch.byte_len() as u64, Ordering::Relaxed);
    }

    /// Whether the calling thread is one too many; then it no longer counts.
    fn leaves(&self, wanted: usize) -> bool {
        let left = |running: usize| (running > wanted.max(1)).then(|| running - 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.counters.running.fetch_update(set, fetch, left).is_ok()
    }

    /// Starts the threads that are missing, as far as there are chunks and budget for them.
    fn grow<'s>(&'s self, scope: &'s Scope<'s, '_>, wanted: usize) {
        let running = self.counters.running.load(Ordering::Relaxed);
        let missing = wanted.saturating_sub(running);
        if missing == 0 {
            return;
        }
        let more = missing.min(lock(&self.chunks).len());
        let granted = self.job.share.threads(more, self.needs);
        if granted < more {
            self.pace.cap(wanted - missing + granted);
        }
        self.start(scope, granted);
    }

    /// Lets no thread take another chunk or wait for one.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(hashes) = self.job.hashes {
            hashes.stop();
        }
    }

    fn next(&self) -> Option<Chunk<'c>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.chunks).next()
    }

    fn run(
        &self,
        chunk: Chunk<'c>,
        scratch: &mut Scratch,
        lane: &mut HeldLane<'c>,
    ) -> Result<(), Error> {
        if self.job.control.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
        }
        for part in &chunk.parts {
            self.job.touched[part.segment.group].store(true, Ordering::Relaxed);
        }
        let (extent, read) = (chunk.source.extent(), chunk.bytes_read());
        let (arriving, staged) = (chunk.bytes_arriving(), chunk.bytes_staged());
        let tensors = self
            .job
            .tally
            .map_or(0, |tally| tally.tensors_ending(&chunk));
        let shard = extent.map(|extent| &self.job.shards[extent.shard.index()]);
        let ran = self
            .run_from(chunk, shard, scratch, lane)
            .map_err(|failure| self.locate(failure, extent))?;
        if !matches!(ran.pull, PullOutcome::Done) {
            let copied = &self.counters.bytes_over_bus;
            copied.fetch_add(staged, Ordering::Relaxed);
        }
        let mut closed = false;
        if let Some(shard) = shard {
            shard.record(ran, read);
            closed = shard.chunk_done()?;
        }
        self.job.share.filled(arriving);
        self.counters.chunks.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_read.fetch_add(read, Ordering::Relaxed);
        if let Some(tally) = self.job.tally {
            tally.add(read, tensors, closed);
        }
        Ok(())
    }

    fn run_from(
        &self,
        chunk: Chunk<'c>,
        shard: Option<&OpenShard<'_>>,
        scratch: &mut Scratch,
        lane: &mut HeldLane<'c>,
    ) -> Result<Ran, Failure> {
        let opened = |preferred| self.pace.widen(preferred, Instant::now());
        let storage = shard.map(|shard| shard.storage(opened)).transpose()?;
        let checks = Checks {
            sums: self.job.sums,
            hashes: self.job.hashes.zip(chunk.hashed),
        };
        let mut tools = Tools {
            storage: storage.as_deref(),
            checks,
            scratch,
            lane,
        };
        run(chunk, &mut tools)
    }

    /// Names the shard, the tensor and the bytes at fault.
    fn locate(&self, failure: Failure, extent: Option<Extent>) -> Error {
        let error = failure.into_error();
        let Some(extent) = extent else { return error };
        let path = self.job.shards[extent.shard.index()].shard().path();
        with_place(error, self.job.catalog, extent).with_path(path)
    }

    fn counts(self) -> Counts {
        let (steps, threads) = self.pace.finish();
        let counters = self.counters;
        let waiting = self.job.hashes.map_or(0, Hashes::peak_bytes);
        let staged = self.needs.staging_bytes * counters.most_running.into_inner() as u64;
        Counts {
            bytes_read: counters.bytes_read.into_inner(),
            reads: counters.chunks.into_inner(),
            threads,
            threads_refused: counters.refused.into_inner(),
            peak_staging_bytes: staged + counters.scratch_bytes.into_inner() + waiting,
            bytes_over_bus: counters.bytes_over_bus.into_inner(),
            steps,
            verified: None,
            hashed: None,
        }
    }
}

/// Stops the crew if the thread that holds it panics: others may wait for its chunk.
struct Unblocking<'w, 'a, 'c>(&'w Crew<'a, 'c>);

impl Drop for Unblocking<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
