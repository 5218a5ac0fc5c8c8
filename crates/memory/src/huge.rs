//! Vectors in huge pages.

use std::alloc::Layout;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Global};
use allocator_api2::vec::Vec;

use crate::{HUGE_PAGE_BYTES, in_huge_pages};

/// A vector whose memory is in huge pages from half a megabyte on.
///
/// It is used as a [`Vec`](std::vec::Vec) is; on systems where this crate knows no huge pages it is
/// one.
#[derive(Clone, PartialEq, Eq)]
pub struct HugeVec<T>(Vec<T, HugePages>);

/// The items of a [`HugeVec`], by value.
pub type IntoIter<T> = allocator_api2::vec::IntoIter<T, HugePages>;

/// Allocates what is long enough in huge pages of its own, and the rest with the program's
/// allocator.
#[derive(Clone, Copy)]
pub struct HugePages;

impl<T> Default for HugeVec<T> {
    fn default() -> Self {
        Self(Vec::new_in(HugePages))
    }
}

impl<T> HugeVec<T> {
    /// An empty vector with room for so many items.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity_in(capacity, HugePages))
    }
}

impl<T: Copy> HugeVec<T> {
    /// Adds all items of a slice, as one run of bytes.
    #[inline]
    pub fn extend_from_copies(&mut self, items: &[T]) {
        self.0.reserve(items.len());
        let len = self.0.len();
        #[allow(unsafe_code)]
        // SAFETY: there is room for the items behind the first `len`, nobody else has that memory,
        // and copies of them make it valid.
        unsafe {
            let end = self.0.as_mut_ptr().add(len);
            std::ptr::copy_nonoverlapping(items.as_ptr(), end, items.len());
            self.0.set_len(len + items.len());
        }
    }
}

impl<T> Deref for HugeVec<T> {
    type Target = Vec<T, HugePages>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for HugeVec<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for HugeVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> IntoIterator for HugeVec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a HugeVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The bytes to map for a layout that is worth a mapping of its own.
fn mapped(layout: Layout) -> Option<usize> {
    let is_worth_it = cfg!(target_os = "linux")
        && in_huge_pages(layout.size()) > 0
        && layout.align() <= HUGE_PAGE_BYTES;
    is_worth_it.then(|| layout.size().max(in_huge_pages(layout.size())))
}

// SAFETY: a block is either the global allocator's or a mapping of its own, which of them is a
// function of its layout alone, and a mapping stays in its place until it is given back; the type
// has no state, so that all copies are alike.
#[allow(unsafe_code)]
unsafe impl Allocator for HugePages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let Some(len) = mapped(layout) else {
            return Global.allocate(layout);
        };
        let block = platform::map(len, in_huge_pages(layout.size())).ok_or(AllocError)?;
        // No longer than asked for, though there is more: a block may be given back by its full
        // length, and a longer one could be that of a longer mapping.
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match mapped(layout) {
            None => Global.allocate_zeroed(layout),
            // As the kernel gives it.
            Some(_) => self.allocate(layout),
        }
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if mapped(old).is_none() && mapped(new).is_none() {
            // The program's allocator may know how to do without a copy.
            // SAFETY: the block is its own, and the caller vouches for the rest.
            return unsafe { Global.grow(block, old, new) };
        }
        let grown = self.allocate(new)?;
        // SAFETY: the caller vouches that the old block was allocated here with its layout and that
        // the new one is no smaller; a new allocation overlaps none.
        unsafe {
            std::ptr::copy_nonoverlapping(block.as_ptr(), grown.as_ptr().cast(), old.size());
            self.deallocate(block, old);
        }
        Ok(grown)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        match mapped(layout) {
            // SAFETY: the caller vouches that the block was allocated here with this layout, which
            // then went to the global allocator too.
            None => unsafe { Global.deallocate(block, layout) },
            // SAFETY: likewise, so that this is a mapping of this length.
            Some(len) => unsafe { platform::unmap(block, len) },
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::ffi::c_void;
    use std::ptr::{NonNull, null_mut};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use crate::HUGE_PAGE_BYTES;

    /// The largest page of any system; whole pages of all others fit into it.
    const LARGEST_PAGE_BYTES: usize = 64 << 10;

    /// Maps `len` bytes from the beginning of a huge page on, and asks for huge pages for the first
    /// `huge` of them.
    #[allow(unsafe_code)]
    pub(super) fn map(len: usize, huge: usize) -> Option<NonNull<u8>> {
        let len = to_pages(len)?;
        let reserved = len.checked_add(HUGE_PAGE_BYTES)?;
        let (access, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, which touches nothing that is there.
        let start = unsafe { mmap_anonymous(null_mut(), reserved, access, private) }.ok()?;
        let before = start.addr().next_multiple_of(HUGE_PAGE_BYTES) - start.addr();
        let block: *mut c_void = start.wrapping_byte_add(before);
        let after = HUGE_PAGE_BYTES - before;
        for (spare, len) in [(start, before), (block.wrapping_byte_add(len), after)] {
            if len > 0 {
                // SAFETY: whole pages of the mapping made above, of which nobody knows yet.
                // It fails only where the kernel cannot split mappings any more; then the pages
                // stay, untouched.
                let _ = unsafe { munmap(spare, len) };
            }
        }
        // SAFETY: these pages are ours, and the advice changes no byte. Without it the memory is
        // slower to fill, and no less correct.
        let _ = unsafe { madvise(block, huge, Advice::LinuxHugepage) };
        NonNull::new(block.cast())
    }

    /// Gives back a block of [`map`].
    ///
    /// # Safety
    /// The block must be one that was made for this length, and nothing may use it any more.
    #[allow(unsafe_code)]
    pub(super) unsafe fn unmap(block: NonNull<u8>, len: usize) {
        if let Some(len) = to_pages(len) {
            // SAFETY: as the caller vouches. It fails only where the kernel cannot split mappings
            // any more; then the memory is lost until the process ends.
            let _ = unsafe { munmap(block.as_ptr().cast(), len) };
        }
    }

    fn to_pages(len: usize) -> Option<usize> {
        len.checked_next_multiple_of(LARGEST_PAGE_BYTES)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::ptr::NonNull;

    /// Never called: nothing is worth a mapping here.
    pub(super) fn map(_len: usize, _huge: usize) -> Option<NonNull<u8>> {
        None
    }

    /// Never called either.
    ///
    /// # Safety
    /// Nothing is done.
    #[allow(unsafe_code)]
    pub(super) unsafe fn unmap(_block: NonNull<u8>, _len: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_grow_from_one_kind_of_memory_into_the_other_and_keep_what_they_hold() {
        let mut numbers: HugeVec<u32> = HugeVec::default();
        for number in 0..2_000_000 {
            numbers.push(number);
        }
        assert!(numbers.iter().copied().eq(0..2_000_000));
        if cfg!(target_os = "linux") {
            assert_eq!(numbers.as_ptr().addr() % HUGE_PAGE_BYTES, 0);
        }
        numbers.truncate(5);
        numbers.extend_from_copies(&[5, 6, 7, 8, 9]);
        numbers.extend_from_copies(&[]);
        numbers.shrink_to_fit();
        assert_eq!(numbers[..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn blocks_of_all_lengths_are_whole_zero_and_given_back() {
        for len in [
            1,
            HUGE_PAGE_BYTES / 4 - 1,
            HUGE_PAGE_BYTES / 4,
            HUGE_PAGE_BYTES,
            HUGE_PAGE_BYTES + 1,
            HUGE_PAGE_BYTES + HUGE_PAGE_BYTES / 4 - 1000,
            3 * HUGE_PAGE_BYTES - 4097,
        ] {
            let layout = Layout::from_size_align(len, 16).unwrap();
            let mut block = HugePages.allocate_zeroed(layout).unwrap();
            #[allow(unsafe_code)]
            // SAFETY: the block was allocated for this length right above, and is given back last.
            unsafe {
                let bytes = block.as_mut();
                assert_eq!(bytes.len(), len);
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(1);
                HugePages.deallocate(block.cast(), layout);
            }
        }
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let layout = Layout::from_size_align(isize::MAX as usize - 4096, 8).unwrap();
        assert!(HugePages.allocate(layout).is_err());
    }
}
