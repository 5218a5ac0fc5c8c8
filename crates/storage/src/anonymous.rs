use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The size and alignment of a huge page on the systems we know.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory from the kernel, returned on drop; from 2 MiB on, aligned to 2 MiB.
///
/// No page is used before it is written to.
/// Huge pages are advised where the system knows them: filling memory in 4 KiB pages is several
/// times slower than in 2 MiB pages, since each page is a fault.
#[derive(Debug)]
pub struct Anonymous {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Anonymous {
    /// Requests `len` bytes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(len: usize) -> io::Result<Self> {
        Self::with_tail(len, len)
    }

    /// Requests `len` bytes for a short time: the last huge page is used if at least a quarter of
    /// it is filled, since zeroing it costs less than the faults that it saves.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn in_huge_pages(len: usize) -> io::Result<Self> {
        let tail = len % HUGE_PAGE_BYTES;
        let spare = match tail < HUGE_PAGE_BYTES / 4 {
            true => 0,
            false => HUGE_PAGE_BYTES - tail,
        };
        Self::with_tail(len, len.saturating_add(spare))
    }

    /// `len` bytes at the beginning of `taken` bytes.
    fn with_tail(len: usize, taken: usize) -> io::Result<Self> {
        // Small memory gains nothing from the alignment.
        let slack = if taken >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            0
        };
        let reserved = taken.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
        // A mapping cannot be empty.
        let map = MmapMut::map_anon(reserved.max(1))?;
        let start = match slack {
            0 => 0,
            _ => map.as_ptr().addr().next_multiple_of(HUGE_PAGE_BYTES) - map.as_ptr().addr(),
        };
        if slack > 0 {
            advise_huge_pages(&map, start, taken);
        }
        Ok(Self { map, start, len })
    }
}

/// Advises huge pages; without them the memory is slower to fill.
fn advise_huge_pages(map: &MmapMut, offset: usize, len: usize) {
    #[cfg(target_os = "linux")]
    if let Err(error) = map.advise_range(memmap2::Advice::HugePage, offset, len) {
        tracing::debug!(%error, "no huge pages for {len} bytes");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (map, offset, len);
}

impl Deref for Anonymous {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.start..][..self.len]
    }
}

impl DerefMut for Anonymous {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_is_huge_page_aligned_and_zero() {
        for len in [
            0,
            1,
            4096,
            HUGE_PAGE_BYTES - 1,
            HUGE_PAGE_BYTES,
            HUGE_PAGE_BYTES * 3 + 17,
        ] {
            for make in [Anonymous::new, Anonymous::in_huge_pages] {
                let mut memory = make(len).unwrap();
                assert_eq!(memory.len(), len);
                assert!(memory.iter().all(|&byte| byte == 0));
                memory.fill(1);
                if len >= HUGE_PAGE_BYTES {
                    assert_eq!(memory.as_ptr().addr() % HUGE_PAGE_BYTES, 0);
                }
            }
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        assert!(Anonymous::new(usize::MAX - 4096).is_err());
        assert!(Anonymous::new(1 << 60).is_err());
        assert!(Anonymous::in_huge_pages(usize::MAX).is_err());
    }
}
