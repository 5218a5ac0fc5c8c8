//! Functions that differ between operating systems, each with a portable fallback.
//!
//! The only module of this crate with unsafe code; every site says what it relies on.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use serde::Serialize;

#[cfg(target_os = "linux")]
mod cgroup;
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
    advise_huge_pages, available_memory, cached_bytes, direct_io, drop_page_cache, forget_pages,
    is_out_of_files, locked_memory_limit, memory, residency,
};
pub(crate) use platform::{fault_in, open_direct, populate, refuses_direct};
pub(crate) use shared::{map, read_at};
pub(crate) use uring::Rings;

/// Whether the kernel lets this process use io_uring.
///
/// # Errors
/// The kernel's reason: `ENOSYS`, `EPERM`; [`io::ErrorKind::Unsupported`] where it is not built in.
pub fn probe_uring() -> io::Result<()> {
    Rings::new().map(drop)
}

/// Distinguishes a file from a changed or another one: length, time of last modification, identity.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stamp {
    /// The length in bytes.
    pub len: u64,
    /// The time of the last modification, where the file system keeps one.
    pub modified: Option<SystemTime>,
    /// The identity of the file, if the system reports one.
    pub identity: Option<Identity>,
}

/// Distinguishes a file from all others.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    device: u64,
    number: u64,
    /// When its contents, its name or its attributes last changed: seconds, nanoseconds.
    pub(crate) changed: (i64, i64),
}

impl Identity {
    /// Whether two files are one.
    ///
    /// File systems in user space may number a file differently each time; a file that replaced
    /// another one differs in both.
    fn is_same(&self, other: &Self) -> bool {
        let numbered = self.number == other.number;
        self.device == other.device && (numbered || self.changed == other.changed)
    }
}

impl Stamp {
    /// Whether this is the stamp of the same file, unchanged.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_file = match (&self.identity, &other.identity) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_file && self.len == other.len && self.modified == other.modified
    }

    /// The stamp of an open file.
    ///
    /// # Errors
    /// If the metadata cannot be read, or it is a directory or a device.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() {
                "a directory"
            } else {
                "not a regular file"
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
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

/// The alignment of direct reads of a file, past the page cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DirectIo {
    /// Offsets and lengths.
    pub offset: usize,
    /// Addresses.
    pub memory: usize,
}

/// This process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ProcessMemory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident in this process.
    pub peak: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, changed: i64, len: u64) -> Stamp {
        let changed = (changed, 0);
        let device = 1;
        Stamp {
            len,
            modified: None,
            identity: Some(Identity {
                device,
                number,
                changed,
            }),
        }
    }

    #[test]
    fn a_file_is_told_by_its_number_or_by_the_time_of_its_last_change() {
        let first = stamp(1, 10, 5);
        // Another link to it was made; the file system numbers its files again.
        for same in [stamp(1, 11, 5), stamp(2, 10, 5)] {
            assert!(first.is_same(&same));
        }
        for other in [stamp(2, 11, 5), stamp(1, 10, 6)] {
            assert!(!first.is_same(&other));
        }
    }
}
