//! The shards of a load: opened when the first of their bytes is due, let go after the last.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tensorlift_storage::{ReaderKind, Storage};
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::job::Pull;
use super::pace::Wish;
use crate::options::LoadOptions;
use crate::reader::{self, Chosen};
use crate::report::FileReport;
use crate::shard::Shard;

/// A shard as one load reads it.
pub(super) struct Source<'a> {
    shard: &'a Shard,
    options: &'a LoadOptions,
    /// Bytes that will be read of it.
    wanted: u64,
    /// Threads that read it if it is in the page cache.
    readers: usize,
    jobs_left: AtomicUsize,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Open(Box<Chosen>),
    Closed(Box<FileReport>),
}

impl<'a> Source<'a> {
    pub(super) fn new(
        shard: &'a Shard,
        options: &'a LoadOptions,
        wanted: u64,
        readers: usize,
    ) -> Self {
        let state = Mutex::new(State::Waiting);
        Self {
            shard,
            options,
            wanted,
            readers,
            jobs_left: AtomicUsize::new(0),
            state,
        }
    }

    pub(super) fn shard(&self) -> &'a Shard {
        self.shard
    }

    /// The storage to read from; the first call chooses the reader, and tells what that likes.
    pub(super) fn storage(&self, opened: impl FnOnce(Wish)) -> io::Result<Arc<dyn Storage>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(chosen) = &*state {
            return Ok(Arc::clone(&chosen.storage));
        }
        let chosen = reader::choose(self.shard, self.wanted, self.readers, self.options)
            .inspect_err(|_| self.shard.storage().release())?;
        tracing::debug!(file = ?chosen.file, "reader chosen");
        opened(Wish::of(&chosen));
        let storage = Arc::clone(&chosen.storage);
        *state = State::Open(Box::new(chosen));
        Ok(storage)
    }

    /// What the reader likes, if one was chosen already.
    pub(super) fn wish(&self) -> Option<Wish> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Open(chosen) => Some(Wish::of(chosen)),
            State::Waiting | State::Closed(_) => None,
        }
    }

    /// Keeps, for the report, whether the device read the shard itself.
    pub(super) fn pulled(&self, pull: Pull) {
        if matches!(pull, Pull::NotAsked) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(chosen) = &mut *state {
            match pull {
                Pull::Done => chosen.pulled_by_device(),
                Pull::Refused(why) => chosen.refuse_once(ReaderKind::Other("device"), &why),
                Pull::NotAsked => {}
            }
        }
    }

    pub(super) fn add_job(&mut self) {
        *self.jobs_left.get_mut() += 1;
    }

    /// Tells that a job of this shard is done; the last one closes it.
    pub(super) fn job_done(&self) -> Result<(), Error> {
        if self.jobs_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(chosen) = std::mem::replace(&mut *state, State::Waiting) {
            let unchanged = self.check_unchanged(&*chosen.storage);
            let cached = chosen.file.cached_before;
            let (policy, mode) = (self.options.page_cache, self.options.mode);
            policy.apply(&*chosen.storage, mode, cached);
            *state = State::Closed(Box::new(chosen.close()));
            self.shard.storage().release();
            return unchanged;
        }
        Ok(())
    }

    /// Bytes of a file that was rewritten since its catalog was read belong to no checkpoint.
    ///
    /// The shard knows what the file was then, its reader only since when it was chosen.
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

    /// How it was read; a shard of which nothing was needed was not read at all.
    pub(super) fn report(&self) -> FileReport {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Waiting) {
            State::Closed(file) => *file,
            State::Open(chosen) => chosen.close(),
            State::Waiting => {
                let len = self.shard.storage().len();
                FileReport::new(self.shard.path(), self.shard.format(), len, None)
            }
        }
    }
}

impl Wish {
    fn of(chosen: &Chosen) -> Self {
        Self {
            threads: chosen.threads,
            adapts: chosen.adapts,
        }
    }
}

impl Drop for Source<'_> {
    /// A load that failed lets go of its shards too.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(_) = state {
            self.shard.storage().release();
        }
    }
}
