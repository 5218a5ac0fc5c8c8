//! Systems without a special path: correct, but without the information that only Linux gives.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;

use super::{DirectIo, ProcessMemory, Residency};

/// The smallest page of the systems this runs on.
const PAGE_BYTES: usize = 4096;

/// Touches every page of a part of a mapping.
pub(crate) fn populate(map: &Mmap, range: Range<usize>) -> io::Result<()> {
    for page in map[range].chunks(PAGE_BYTES) {
        std::hint::black_box(page[0]);
    }
    Ok(())
}

/// Unknown here.
#[must_use]
pub fn is_out_of_files(_error: &io::Error) -> bool {
    false
}

/// Pages are allocated as they are written to.
pub(crate) fn fault_in(_memory: &mut [u8]) {}

/// The system decides on the size of pages.
pub fn advise_huge_pages(_memory: &mut [u8]) {}

/// Unknown here.
#[must_use]
pub fn residency(_file: &File, _len: u64) -> Option<Residency> {
    None
}

/// Unknown here.
#[must_use]
pub fn cached_bytes(_file: &File, _offset: u64, _len: u64) -> Option<u64> {
    None
}

/// Unsupported here.
///
/// # Errors
/// Always.
pub fn direct_io(_file: &File) -> io::Result<DirectIo> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Unsupported here.
pub(crate) fn open_direct(_file: &File) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There are no direct reads here.
pub(crate) fn refuses_direct(_error: &io::Error) -> bool {
    false
}

/// Unsupported here.
///
/// # Errors
/// Always.
pub fn drop_page_cache(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Unknown here.
#[must_use]
pub fn available_memory() -> Option<u64> {
    None
}

/// Unsupported here.
///
/// # Errors
/// Always.
pub fn forget_pages(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Unknown here: zeros.
#[must_use]
pub fn memory() -> ProcessMemory {
    ProcessMemory::default()
}

/// Unknown here: no limit.
#[must_use]
pub fn locked_memory_limit() -> Option<u64> {
    None
}
