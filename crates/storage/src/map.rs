use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::Mmap;

use crate::{LocalFile, ReaderKind, Storage, os};

/// A file mapped into memory, read-only.
///
/// A mapping follows its file.
/// If another process rewrites the file, the bytes change under every view of them; if it cuts
/// the file short, touching a lost page ends this process with SIGBUS.
/// Use [`FileStorage`](crate::FileStorage) where files may change while they are loaded.
#[derive(Debug)]
pub struct MapStorage {
    map: Mmap,
    /// Kept until released; the mapping does not need it.
    file: Mutex<Option<Arc<File>>>,
    stamp: os::Stamp,
}

impl MapStorage {
    /// Maps a file; no page is read yet.
    ///
    /// # Errors
    /// If it cannot be opened or mapped, or is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_file(File::open(path)?)
    }

    /// Maps a file that is open already.
    ///
    /// # Errors
    /// If it cannot be mapped or is not a regular file.
    pub fn from_file(file: impl Into<Arc<File>>) -> io::Result<Self> {
        let file = file.into();
        let stamp = os::Stamp::of(&file)?;
        let map = os::map(&file)?;
        if map.len() as u64 != stamp.len {
            return Err(io::Error::other(
                "the file changed its length while it was mapped",
            ));
        }
        Ok(Self {
            map,
            file: Mutex::new(Some(file)),
            stamp,
        })
    }
}

impl MapStorage {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MapStorage {
    fn len(&self) -> u64 {
        self.stamp.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        crate::memory::copy_from(&self.map, offset, buf)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Map
    }

    fn as_slice(&self) -> Option<&[u8]> {
        Some(&self.map)
    }

    fn release(&self) {
        *self.lock() = None;
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        match &*self.lock() {
            Some(file) => Ok(os::Stamp::of(file)?.is_same(&self.stamp)),
            None => Ok(true),
        }
    }

    fn as_local(&self) -> Option<&dyn LocalFile> {
        Some(self)
    }
}

impl LocalFile for MapStorage {
    /// The file, until it is released: a mapping does not open it again.
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        Ok(self.lock().clone())
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        os::populate(&self.map, start as usize..end as usize)
    }
}
