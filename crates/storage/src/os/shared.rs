//! Functions of the standard library and memmap2, for every system.

use std::fs::{File, Metadata};
use std::io;

use memmap2::{Mmap, MmapOptions};

use super::Identity;

#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

/// Moves the file's own position too, which nothing here looks at.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[allow(unsafe_code)]
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to this crate, which hands out shared slices
    // only. That nobody changes the file meanwhile cannot be proved from here: `MapStorage`
    // states it as the bargain of mapping, and `FileStorage` is the way around it.
    // A private one, which file systems grant that cannot keep shared ones in step (FUSE).
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}

#[cfg(unix)]
pub(crate) fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some(Identity {
        device: metadata.dev(),
        number: metadata.ino(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(not(unix))]
pub(crate) fn identity(_metadata: &Metadata) -> Option<Identity> {
    None
}
