use std::fs::File;
use std::io;
use std::path::Path;

use crate::{Storage, os};

/// A file, read with positional reads; nothing of it is mapped.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    stamp: os::Stamp,
}

impl FileStorage {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// If it cannot be opened or is no regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_file(File::open(path)?)
    }

    /// Reads from a file that is open already.
    ///
    /// # Errors
    /// If it is no regular file.
    pub fn from_file(file: File) -> io::Result<Self> {
        let stamp = os::Stamp::of(&file)?;
        Ok(Self { file, stamp })
    }
}

impl Storage for FileStorage {
    fn len(&self) -> u64 {
        self.stamp.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        os::read_at(&self.file, offset, buf)
    }

    fn reader(&self) -> &'static str {
        "pread"
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(os::Stamp::of(&self.file)? == self.stamp)
    }
}
