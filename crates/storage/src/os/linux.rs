//! Linux: populated mappings, `cachestat`, `/proc`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use memmap2::{Advice, Mmap};
use rustix::fs::{Advice as FileAdvice, AtFlags, StatxFlags};

use super::{DirectIo, ProcessMemory, Residency};
use crate::anonymous::HUGE_PAGE_BYTES;

/// One call of `madvise` populates at most this many bytes, so that a signal or a failure is seen
/// soon.
const POPULATE_STRIDE: usize = 64 << 20;
/// For fewer bytes, the call costs more than it saves.
const FAULT_IN_BYTES: usize = 64 << 10;
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

/// Whether the process or the system has run out of descriptors.
#[must_use]
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Makes the pages of some memory resident, if they are many; no byte changes.
#[allow(unsafe_code)]
pub(crate) fn fault_in(memory: &mut [u8]) {
    let pages = whole_pages(memory, rustix::param::page_size());
    if pages.len() < FAULT_IN_BYTES {
        return;
    }
    let advice = rustix::mm::Advice::LinuxPopulateWrite;
    // SAFETY: these are whole pages of memory that is borrowed for writing, and the advice, known
    // since 5.14, writes nothing. Where it fails, the pages come as they are written to.
    let _ = unsafe { rustix::mm::madvise(pages.as_mut_ptr().cast(), pages.len(), advice) };
}

/// Asks for huge pages where whole ones fit into some memory, which should not have been written
/// to yet; no byte changes.
///
/// Without them the memory is slower to fill, as each small page is a fault.
#[allow(unsafe_code)]
pub fn advise_huge_pages(memory: &mut [u8]) {
    let pages = whole_pages(memory, HUGE_PAGE_BYTES);
    if pages.is_empty() {
        return;
    }
    let advice = rustix::mm::Advice::LinuxHugepage;
    // SAFETY: these are whole pages of memory that is borrowed for writing, and the advice changes
    // the size of its pages alone.
    let _ = unsafe { rustix::mm::madvise(pages.as_mut_ptr().cast(), pages.len(), advice) };
}

/// The part of some memory that whole pages of this size fill.
fn whole_pages(memory: &mut [u8], page: usize) -> &mut [u8] {
    let start = memory.as_ptr().addr().next_multiple_of(page) - memory.as_ptr().addr();
    let pages = memory.get_mut(start..).unwrap_or_default();
    let len = pages.len() - pages.len() % page;
    &mut pages[..len]
}

fn touch(bytes: &[u8]) {
    for page in bytes.chunks(rustix::param::page_size()) {
        std::hint::black_box(page[0]);
    }
}

/// How much of the file's first `len` bytes is in the page cache, by samples; `None` if the kernel
/// does not report it.
#[must_use]
pub fn residency(file: &File, len: u64) -> Option<Residency> {
    let page = rustix::param::page_size() as u64;
    // Windows begin with a page.
    let step = (len / WINDOWS).max(WINDOW_BYTES) / WINDOW_BYTES * WINDOW_BYTES;
    let starts = (0..len).step_by(usize::try_from(step).ok()?);
    let windows = starts.map(|start| (start, (len - start).min(WINDOW_BYTES)));
    Some(Residency {
        sampled_pages: windows.clone().map(|(_, len)| len.div_ceil(page)).sum(),
        resident_pages: cached_pages(file, windows)?,
    })
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
    let pages = cached_pages(file, std::iter::once((offset, len)))?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Counts pages in ranges of offset and length, in order.
fn cached_pages(file: &File, ranges: impl Iterator<Item = (u64, u64)> + Clone) -> Option<u64> {
    let counted = ranges
        .clone()
        .map(|(offset, len)| cachestat(file, offset, len));
    match counted.sum() {
        // overlayfs reports this for every file: the pages belong to the file beneath, as do
        // mappings.
        Some(0) | None => mincore(file, ranges),
        counted => counted,
    }
}

/// Linux 6.5; only owners and writers of a file may ask.
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

/// Asks by a mapping that spans all ranges.
#[allow(unsafe_code)]
fn mincore(file: &File, ranges: impl Iterator<Item = (u64, u64)> + Clone) -> Option<u64> {
    if !may_ask_mincore(file) {
        return None;
    }
    let page = rustix::param::page_size();
    let (start, _) = ranges.clone().next()?;
    let (last, len) = ranges.clone().last()?;
    let start = start - start % page as u64;
    let span = usize::try_from(last.checked_add(len)? - start).ok()?;
    // SAFETY: as for `map`; and no byte of this mapping is ever looked at.
    let map = unsafe {
        memmap2::MmapOptions::new()
            .offset(start)
            .len(span)
            .map(file)
    }
    .ok()?;
    let mut pages = Vec::new();
    let mut resident = 0;
    for (offset, len) in ranges {
        // Within `span`, so it fits.
        let at = (offset - start) as usize;
        let range = &map[at - at % page..at + len as usize];
        pages.resize(range.len().div_ceil(page), 0u8);
        let address = range.as_ptr().cast_mut().cast();
        // SAFETY: the range begins at a page of the mapping and ends within it; `pages` has a byte
        // for each of its pages.
        if unsafe { libc::mincore(address, range.len(), pages.as_mut_ptr()) } != 0 {
            return None;
        }
        resident += pages.iter().filter(|&&page| page & 1 == 1).count() as u64;
    }
    Some(resident)
}

/// For other files, `mincore(2)` reports every page as present.
#[allow(unsafe_code)]
fn may_ask_mincore(file: &File) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let owns = file.metadata().is_ok_and(|metadata| metadata.uid() == user);
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a string that ends in a zero, and the call keeps nothing.
    owns || unsafe { libc::faccessat(file.as_raw_fd(), c"".as_ptr(), libc::W_OK, flags) } == 0
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

/// Whether a failed direct read means that direct reads do not work for this file.
pub(crate) fn refuses_direct(error: &io::Error) -> bool {
    // The errors of Linux if the alignment or an underlying file system does not support it.
    let refusals = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOTSUP];
    error
        .raw_os_error()
        .is_some_and(|code| refusals.contains(&code))
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

/// How many bytes this process can still make resident, as far as the kernel and the control groups
/// tell: free memory, and memory that the page cache can give back.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok();
    let of_machine = of_machine.and_then(|text| kib_field(&text, "MemAvailable:"));
    let of_groups = super::cgroup::headroom(std::path::Path::new("/"));
    [of_machine, of_groups].into_iter().flatten().min()
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn what_is_cached_of_files_of_others_is_unknown() {
        const NOBODY: libc::c_long = 65534;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        let of_owner = residency(&file, 100_000).unwrap();
        assert_eq!(of_owner.share(), 1.0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("not run: only root can become another user");
            return;
        }
        let of_another = || {
            // SAFETY: the call takes numbers. Made past the C library, it changes the user of this
            // thread alone.
            let status = unsafe { libc::syscall(libc::SYS_setresuid, -1, NOBODY, -1) };
            assert_eq!(status, 0);
            mincore(&file, std::iter::once((0, 100_000)))
        };
        let told = std::thread::scope(|scope| scope.spawn(of_another).join().unwrap());
        assert_eq!(told, None);
    }

    #[test]
    fn huge_pages_are_advised_for_memory_of_any_allocator() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            eprintln!("not run: the kernel has no huge pages");
            return;
        }
        let mut memory = vec![0u8; 64 << 20];
        advise_huge_pages(&mut memory);
        let middle = memory.as_ptr().addr() + memory.len() / 2;
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_around = false;
        let mut flags = mappings.lines().filter(|line| {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let hex = |digits| usize::from_str_radix(digits, 16).ok();
            if let Some((Some(first), Some(end))) = range.map(|(first, end)| (hex(first), hex(end)))
            {
                is_around = (first..end).contains(&middle);
            }
            is_around && line.starts_with("VmFlags:")
        });
        let flags = flags.next().unwrap();
        assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
        // Less than a huge page, and nothing at all.
        advise_huge_pages(&mut memory[..4096]);
        advise_huge_pages(&mut []);
    }

    #[test]
    fn no_more_is_found_than_is_looked_at() {
        let mut file = tempfile::tempfile().unwrap();
        let len = WINDOWS as usize * WINDOW_BYTES as usize * 3 / 2 + 1001;
        file.write_all(&vec![1; len]).unwrap();
        let found = residency(&file, len as u64).unwrap();
        assert_eq!(found.resident_pages, found.sampled_pages);
    }

    #[test]
    fn both_ways_to_ask_agree_on_ranges_within_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        let ranges = [(0, 1), (5000, 4096), (20_000, 80_000)];
        let counted: Option<u64> = ranges
            .iter()
            .map(|&(at, len)| cachestat(&file, at, len))
            .sum();
        let Some(counted) = counted else {
            eprintln!("not run: no cachestat here");
            return;
        };
        assert_eq!(mincore(&file, ranges.into_iter()), Some(counted));
        assert_eq!(cached_bytes(&file, 1 << 40, 1), Some(0));
        assert_eq!(cached_bytes(&file, u64::MAX, 7), None);
    }
}
