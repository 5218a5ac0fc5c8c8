//! Memory that belongs to nobody yet.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The size and alignment of a huge page on the systems we know.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory straight from the kernel, 2 MiB aligned, returned on drop.
///
/// No page is spent before it is written to.
/// Huge pages are advised where the system knows them: filling memory in 4 KiB pages is several
/// times slower than in 2 MiB pages, since each page is a fault.
#[derive(Debug)]
pub struct Anonymous {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Anonymous {
    /// Asks for `len` bytes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(len: usize) -> io::Result<Self> {
        // Small memory gains nothing from the alignment, and wastes nothing without it.
        let slack = if len >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            0
        };
        let reserved = len.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
        // A mapping cannot be empty.
        let map = MmapMut::map_anon(reserved.max(1))?;
        let start = match slack {
            0 => 0,
            _ => map.as_ptr().addr().next_multiple_of(HUGE_PAGE_BYTES) - map.as_ptr().addr(),
        };
        if slack > 0 {
            super::advise_huge_pages(&map, start, len);
        }
        Ok(Self { map, start, len })
    }
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
        for len in [0, 1, 4096, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES * 3 + 17] {
            let mut memory = Anonymous::new(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!(memory.iter().all(|&byte| byte == 0));
            memory.fill(1);
            if len >= HUGE_PAGE_BYTES {
                assert_eq!(memory.as_ptr().addr() % HUGE_PAGE_BYTES, 0);
            }
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        assert!(Anonymous::new(usize::MAX - 4096).is_err());
        assert!(Anonymous::new(1 << 60).is_err());
    }
}
