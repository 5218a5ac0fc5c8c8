use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{LocalFile, ReaderKind, Storage, os};

/// A file, read with positional reads; nothing of it is mapped.
///
/// Opened by its path, it can be [released](Storage::release) and is opened again when needed, so
/// that a checkpoint of many shards does not hold as many descriptors.
/// While it is open, renaming another file over its path has no effect; after a release this is an
/// error, since only the file that was opened first is read.
#[derive(Debug)]
pub struct FileStorage {
    path: Option<PathBuf>,
    stamp: os::Stamp,
    open: Mutex<Option<Arc<File>>>,
}

impl FileStorage {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// If it cannot be opened or is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Ok(Self {
            path: Some(path.to_owned()),
            ..Self::from_file(File::open(path)?)?
        })
    }

    /// Reads from a file that is open already, and keeps it open.
    ///
    /// # Errors
    /// If it is not a regular file.
    pub fn from_file(file: impl Into<Arc<File>>) -> io::Result<Self> {
        let file = file.into();
        let stamp = os::Stamp::of(&file)?;
        Ok(Self {
            path: None,
            stamp,
            open: Mutex::new(Some(file)),
        })
    }

    fn opened(&self) -> io::Result<Arc<File>> {
        let mut open = self.lock();
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        // Only files with a path are ever closed.
        let path = self.path.as_deref().ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(File::open(path)?);
        if !os::Stamp::of(&file)?.is_same(&self.stamp) {
            return Err(io::Error::other(
                "the path names another file than when it was first opened",
            ));
        }
        *open = Some(Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for FileStorage {
    fn len(&self) -> u64 {
        self.stamp.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        os::read_at(&*self.opened()?, offset, buf)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Buffered
    }

    fn release(&self) {
        if self.path.is_some() {
            *self.lock() = None;
        }
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let now = match (&*self.lock(), &self.path) {
            (None, Some(path)) => os::Stamp::of(&File::open(path)?)?,
            (Some(file), _) => os::Stamp::of(file)?,
            (None, None) => return Ok(true),
        };
        Ok(now.is_same(&self.stamp))
    }

    fn as_local(&self) -> Option<&dyn LocalFile> {
        Some(self)
    }
}

impl LocalFile for FileStorage {
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        self.opened().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageExt;

    #[test]
    fn a_file_renamed_over_the_path_is_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        std::fs::write(&path, b"old").unwrap();
        std::fs::write(&other, b"new").unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let storage = FileStorage::open(&path).unwrap();
        let changed = |path: &Path| {
            let stamp = os::Stamp::of(&File::open(path).unwrap()).unwrap();
            stamp.identity.map(|identity| identity.changed)
        };
        let before = changed(&path);
        // Until the clock of the file system has moved on.
        loop {
            let other = File::options().write(true).open(&other).unwrap();
            other.set_modified(modified).unwrap();
            drop(other);
            if before.is_none() || changed(&folder.path().join("other")) != before {
                break;
            }
        }
        std::fs::rename(&other, &path).unwrap();

        let mut bytes = [0; 3];
        storage.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!((&bytes, storage.is_unchanged().unwrap()), (b"old", true));
        storage.release();
        if os::Stamp::of(&File::open(&path).unwrap())
            .unwrap()
            .identity
            .is_none()
        {
            eprintln!("not run: files have no identity here");
            return;
        }
        assert!(!storage.is_unchanged().unwrap());
        storage.read_exact_at(0, &mut bytes).unwrap_err();
        storage.file().unwrap_err();
    }
}
