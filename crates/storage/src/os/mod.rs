//! What differs between operating systems, each with a plain fallback.
//!
//! The only module of this crate with unsafe code; every site says what it relies on.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use serde::Serialize;

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "plain.rs")]
mod platform;
mod shared;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod uring;
#[cfg(not(all(target_os = "linux", feature = "uring")))]
#[path = "no_uring.rs"]
mod uring;

pub use platform::{
    available_memory, cached_bytes, direct_io, drop_page_cache, forget_pages, locked_memory_limit,
    memory, residency,
};
pub(crate) use platform::{open_direct, populate, refuses_direct};
pub(crate) use shared::{map, read_at};
pub(crate) use uring::Rings;

/// Whether the kernel lets this process use io_uring.
///
/// # Errors
/// The kernel's reason: `ENOSYS`, `EPERM`; [`io::ErrorKind::Unsupported`] where it is not built in.
pub fn probe_uring() -> io::Result<()> {
    Rings::new().map(drop)
}

/// What tells a file from a changed or another one: length, time of last modification, identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The length in bytes.
    pub len: u64,
    /// The time of the last modification, where the file system keeps one.
    pub modified: Option<SystemTime>,
    /// Device and file number, where the system has them.
    pub identity: Option<(u64, u64)>,
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// If the file cannot be asked, or is a directory or a device.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() {
                "a directory"
            } else {
                "no regular file"
            };
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("this is {kind}"),
            ));
        }
        Ok(Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            identity: shared::identity(&metadata),
        })
    }
}

/// How much of a file is in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Pages looked at.
    pub sampled_pages: u64,
    /// Pages of these in the page cache.
    pub resident_pages: u64,
}

impl Residency {
    /// The share in the page cache, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.sampled_pages == 0 {
            return 0.0;
        }
        self.resident_pages as f64 / self.sampled_pages as f64
    }
}

/// What a file's direct reads, past the page cache, must be aligned to, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DirectIo {
    /// Offsets and lengths.
    pub offset: usize,
    /// Addresses.
    pub memory: usize,
}

/// This process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessMemory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident in this process.
    pub peak: u64,
}
