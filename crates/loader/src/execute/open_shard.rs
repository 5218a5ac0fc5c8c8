//! The shards of a load: opened when their first byte is due, released after the last.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::chunk::PullOutcome;
use super::pace::Concurrency;
use super::page_cache;
use super::reader::{self, ChosenReader};
use super::tools::Ran;
use crate::options::LoadOptions;
use crate::report::FileReport;
use crate::shard::Shard;

/// A shard in one load.
pub(super) struct OpenShard<'a> {
    shard: &'a Shard,
    options: &'a LoadOptions,
    /// Bytes that the load reads of it.
    wanted: u64,
    /// Threads that read it if it is in the page cache.
    readers: usize,
    chunks_left: AtomicUsize,
    bytes_in_place: AtomicU64,
    bytes_bounced: AtomicU64,
    state: Mutex<ShardState>,
}

enum ShardState {
    Waiting,
    Open(Box<ChosenReader>),
    Closed(Box<FileReport>),
}

impl<'a> OpenShard<'a> {
    pub(super) fn new(
        shard: &'a Shard,
        options: &'a LoadOptions,
        wanted: u64,
        readers: usize,
    ) -> Self {
        Self {
            shard,
            options,
            wanted,
            readers,
            chunks_left: AtomicUsize::new(0),
            bytes_in_place: AtomicU64::new(0),
            bytes_bounced: AtomicU64::new(0),
            state: Mutex::new(ShardState::Waiting),
        }
    }

    pub(super) fn shard(&self) -> &'a Shard {
        self.shard
    }

    /// The storage to read from; the first call chooses the reader and reports its preferred
    /// concurrency.
    pub(super) fn storage(&self, opened: impl FnOnce(Concurrency)) -> io::Result<Arc<dyn Storage>> {
        let mut state = self.lock();
        if let ShardState::Open(choice) = &*state {
            return Ok(Arc::clone(&choice.storage));
        }
        let choice = reader::choose(self.shard, self.wanted, self.readers, self.options)
            .inspect_err(|_| self.shard.storage().release())?;
        choice.log();
        opened(choice.concurrency);
        let storage = Arc::clone(&choice.storage);
        *state = ShardState::Open(Box::new(choice));
        Ok(storage)
    }

    /// The preferred concurrency, if the shard is open.
    pub(super) fn concurrency(&self) -> Option<Concurrency> {
        match &*self.lock() {
            ShardState::Open(choice) => Some(choice.concurrency),
            ShardState::Waiting | ShardState::Closed(_) => None,
        }
    }

    /// Records for the report how `bytes` of the shard were read.
    pub(super) fn record(&self, ran: Ran, bytes: u64) {
        let counter = match ran.bounced {
            true => &self.bytes_bounced,
            false => &self.bytes_in_place,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        if matches!(ran.pull, PullOutcome::NotAsked) {
            return;
        }
        if let ShardState::Open(choice) = &mut *self.lock() {
            match ran.pull {
                PullOutcome::Done => choice.file.pulled_by_device = true,
                PullOutcome::Refused(why) => choice.device_refused(&why),
                PullOutcome::NotAsked => {}
            }
        }
    }

    pub(super) fn add_chunk(&mut self) {
        *self.chunks_left.get_mut() += 1;
    }

    /// Whether a chunk reads something of it.
    pub(super) fn is_read(&self) -> bool {
        self.chunks_left.load(Ordering::Relaxed) > 0
    }

    /// Counts a chunk of this shard as done. The last one closes it; tells whether it was that.
    pub(super) fn chunk_done(&self) -> Result<bool, Error> {
        if self.chunks_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(false);
        }
        let mut state = self.lock();
        if let ShardState::Open(choice) = std::mem::replace(&mut *state, ShardState::Waiting) {
            let unchanged = self.check_unchanged(&*choice.storage);
            let (policy, mode) = (self.options.page_cache, self.options.mode);
            page_cache::apply(policy, &*choice.storage, mode, choice.file.cached_before);
            *state = ShardState::Closed(Box::new(choice.into_final_report()));
            self.shard.storage().release();
            unchanged?;
        }
        drop(state);
        self.log();
        Ok(true)
    }

    fn log(&self) {
        if let ShardState::Closed(file) = &*self.lock() {
            tracing::debug!(
                path = %file.path.display(),
                seconds = file.read.as_secs_f64(),
                bytes_in_place = self.bytes_in_place.load(Ordering::Relaxed),
                bytes_bounced = self.bytes_bounced.load(Ordering::Relaxed),
                "shard read",
            );
        }
    }

    /// Fails if the file was rewritten after its catalog was read.
    ///
    /// The shard's storage knows the file since it was opened, its reader only since it was chosen.
    fn check_unchanged(&self, reader: &dyn Storage) -> Result<(), Error> {
        let failed = |error: Error| error.with_path(self.shard.path());
        let mut unchanged = self.shard.storage().is_unchanged();
        if let Ok(true) = unchanged {
            unchanged = reader.is_unchanged();
        }
        if unchanged.map_err(|error| failed(Error::new(ErrorKind::Storage, error)))? {
            return Ok(());
        }
        let found = "the file changed while it was loaded";
        Err(failed(Error::new(ErrorKind::Storage, found))
            .with_remedy("load it again once nobody writes to it"))
    }

    /// How the shard was read, if at all.
    pub(super) fn report(&self) -> FileReport {
        let mut report = match std::mem::replace(&mut *self.lock(), ShardState::Waiting) {
            ShardState::Closed(file) => *file,
            ShardState::Open(choice) => choice.into_report(),
            ShardState::Waiting => {
                let len = self.shard.storage().len();
                FileReport::new(self.shard.path(), self.shard.format(), len, None)
            }
        };
        report.bytes_in_place = self.bytes_in_place.load(Ordering::Relaxed);
        report.bytes_bounced = self.bytes_bounced.load(Ordering::Relaxed);
        report
    }

    fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenShard<'_> {
    /// A load that failed releases its shards too.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let ShardState::Open(_) = state {
            self.shard.storage().release();
        }
    }
}
