//! The state of each file that is being loaded.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::Allocation;

/// Device and inode, which identify a file however often it is opened.
type FileId = (u64, u64);

/// A value for each file, kept until the last group that reads it is finished.
#[derive(Debug, Default)]
pub(super) struct PerFile<T> {
    open: Mutex<HashMap<FileId, Known<T>>>,
}

#[derive(Debug, Default)]
struct Known<T> {
    what: Arc<T>,
    /// The groups that read the file, by address.
    groups: Vec<usize>,
}

impl<T: Default> PerFile<T> {
    /// The state of a file that this group reads.
    pub(super) fn of(&self, memory: &Arc<Allocation>, file: &File) -> io::Result<Arc<T>> {
        let metadata = file.metadata()?;
        let group = Arc::as_ptr(memory).addr();
        let mut open = lock(&self.open);
        let known = open.entry((metadata.dev(), metadata.ino())).or_default();
        if !known.groups.contains(&group) {
            known.groups.push(group);
        }
        Ok(Arc::clone(&known.what))
    }

    /// Forgets the files that only this group read; whether none is left.
    pub(super) fn release(&self, memory: &Arc<Allocation>) -> bool {
        let group = Arc::as_ptr(memory).addr();
        let mut open = lock(&self.open);
        open.retain(|_, known| {
            known.groups.retain(|other| *other != group);
            !known.groups.is_empty()
        });
        open.is_empty()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
