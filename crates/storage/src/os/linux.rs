//! Linux: populated mappings, `cachestat`, `/proc`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use memmap2::{Advice, Mmap};
use rustix::fs::{Advice as FileAdvice, AtFlags, StatxFlags};

use super::{DirectIo, ProcessMemory, Residency};

/// One call of `madvise` populates at most this many bytes, so that a signal or a failure is seen
/// soon.
const POPULATE_STRIDE: usize = 64 << 20;
/// Residency is sampled in this many windows of this many bytes: files come into the page cache in
/// larger pieces.
const WINDOWS: u64 = 64;
const WINDOW_BYTES: u64 = 256 << 10;

/// Reads every page of a part of a mapping into the page cache and maps it.
pub(crate) fn populate(map: &Mmap, range: Range<usize>) -> io::Result<()> {
    let mut start = range.start;
    while start < range.end {
        let len = (range.end - start).min(POPULATE_STRIDE);
        match map.advise_range(Advice::PopulateRead, start, len) {
            Ok(()) => {}
            // Kernels before 5.14.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => touch(&map[start..][..len]),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "the mapped bytes {start}..{} are gone from the file",
                        start + len
                    ),
                ));
            }
            Err(error) => return Err(error),
        }
        start += len;
    }
    Ok(())
}

fn touch(bytes: &[u8]) {
    for page in bytes.chunks(rustix::param::page_size()) {
        std::hint::black_box(page[0]);
    }
}

/// How much of the file's first `len` bytes is in the page cache, by samples; `None` where the
/// kernel does not tell.
#[must_use]
pub fn residency(file: &File, len: u64) -> Option<Residency> {
    let page = rustix::param::page_size() as u64;
    let mut total = Residency {
        sampled_pages: 0,
        resident_pages: 0,
    };
    let step = (len / WINDOWS).max(WINDOW_BYTES);
    let mut start = 0;
    while start < len {
        let window = (len - start).min(WINDOW_BYTES);
        total.resident_pages += cached_pages(file, start, window)?;
        total.sampled_pages += window.div_ceil(page);
        start += step;
    }
    Some(total)
}

/// `struct cachestat_range` of `linux/mman.h`.
#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

/// `struct cachestat` of `linux/mman.h`.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many bytes of a part of a file are in the page cache, in whole pages; `None` where the
/// kernel does not tell.
#[must_use]
pub fn cached_bytes(file: &File, offset: u64, len: u64) -> Option<u64> {
    Some(cached_pages(file, offset, len)? * rustix::param::page_size() as u64)
}

fn cached_pages(file: &File, offset: u64, len: u64) -> Option<u64> {
    cachestat(file, offset, len).or_else(|| mincore(file, offset, len))
}

/// Linux 6.5; owners and writers of a file alone may ask.
#[allow(unsafe_code)]
fn cachestat(file: &File, off: u64, len: u64) -> Option<u64> {
    // The number is the same on every architecture that has the call.
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = CachestatRange { off, len };
    let mut stat = Cachestat::default();
    // SAFETY: both pointers are to live values of the layouts that `cachestat(2)` gives; the call
    // writes the second one only, and keeps neither.
    let status = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut stat,
            0u32,
        )
    };
    (status == 0).then_some(stat.cached)
}

/// Older kernels tell by a mapping; for a file that the process could not write, they claim that
/// everything is there.
#[allow(unsafe_code)]
fn mincore(file: &File, offset: u64, len: u64) -> Option<u64> {
    let page = rustix::param::page_size();
    let start = offset - offset % page as u64;
    let len = usize::try_from(offset + len - start).ok()?;
    // SAFETY: as for `map`; and no byte of this mapping is ever looked at.
    let map = unsafe { memmap2::MmapOptions::new().offset(start).len(len).map(file) }.ok()?;
    let mut pages = vec![0u8; len.div_ceil(page)];
    // SAFETY: the mapping begins at a page and has `len` bytes; `pages` has a byte for each page.
    let status = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), len, pages.as_mut_ptr()) };
    (status == 0).then(|| pages.iter().filter(|&&page| page & 1 == 1).count() as u64)
}

/// What direct reads of a file must be aligned to, as `statx(2)` says, or what all known file
/// systems take where the kernel does not say (before 6.1).
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if the file system has no direct reads.
pub fn direct_io(file: &File) -> io::Result<DirectIo> {
    let guess = DirectIo {
        offset: 4096,
        memory: 4096,
    };
    let asked = StatxFlags::DIOALIGN;
    let Ok(stat) = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, asked) else {
        return Ok(guess);
    };
    if stat.stx_mask & asked.bits() == 0 {
        return Ok(guess);
    }
    match (
        stat.stx_dio_offset_align as usize,
        stat.stx_dio_mem_align as usize,
    ) {
        (0, _) | (_, 0) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the file system says it has no direct reads",
        )),
        (offset, memory) => Ok(DirectIo { offset, memory }),
    }
}

/// Opens the same file once more, for direct reads.
pub(crate) fn open_direct(file: &File) -> io::Result<File> {
    // Not by its path, which may name another file by now.
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(same)
}

/// Asks the kernel to forget the file's pages, for measurements from a cold cache.
///
/// Dirty pages are written first; pages that others have mapped stay.
///
/// # Errors
/// If writing or the advice fails.
pub fn drop_page_cache(file: &File) -> io::Result<()> {
    file.sync_all()?;
    forget_pages(file)
}

/// Asks the kernel to forget those of the file's pages that are written already.
///
/// # Errors
/// If the advice fails.
pub fn forget_pages(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, FileAdvice::DontNeed)?)
}

/// How many bytes this process can still make resident, as far as the kernel and the control group
/// tell: what is free, and what the page cache would give back.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok();
    let of_machine = of_machine.and_then(|text| kib_field(&text, "MemAvailable:"));
    [of_machine, group_headroom()].into_iter().flatten().min()
}

/// What the control group (version 2) leaves, page cache not counted against it.
fn group_headroom() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(path);
    let read = |file| std::fs::read_to_string(folder.join(file)).ok();
    // "max" is no number: no limit.
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat")?;
    let field = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let cache = field("active_file ")? + field("inactive_file ")?;
    Some(limit.saturating_sub(current.saturating_sub(cache)))
}

/// The most memory that this process may lock, in bytes; `None` for no limit.
#[must_use]
pub fn locked_memory_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

/// What `/proc/self/status` says of this process's memory; zeros where there is none.
#[must_use]
pub fn memory() -> ProcessMemory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name| kib_field(&status, name).unwrap_or(0);
    ProcessMemory {
        resident: bytes("VmRSS:"),
        peak: bytes("VmHWM:"),
    }
}

/// A field of `/proc` files that count in KiB, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
