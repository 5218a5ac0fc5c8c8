//! Memory in huge pages.
//!
//! The kernel hands out memory page by page, as it is first touched.
//! A fault costs more than filling the page with zeros does, so memory in pages of 2 MiB is filled
//! several times faster than in pages of 4 KiB: [`Anonymous`] holds the bytes of tensors,
//! [`HugeVec`] the descriptions of very many of them.
//!
//! ```
//! use tensorlift_memory::{Anonymous, HugeVec};
//!
//! let mut memory = Anonymous::new(1 << 20)?;
//! memory[1000] = 1;
//!
//! let mut numbers: HugeVec<u64> = HugeVec::default();
//! numbers.extend(0..1_000_000);
//! assert_eq!(numbers[999_999], 999_999);
//! # Ok::<(), std::io::Error>(())
//! ```

mod anonymous;
mod huge;

pub use anonymous::Anonymous;
pub use huge::{HugePages, HugeVec, IntoIter};

/// The size and alignment of a huge page on the systems we know.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// How many bytes of memory that will hold `len` should be in huge pages: the last one is taken
/// as a whole if it is to be filled to a quarter, since from there on zeroing it all costs less
/// than the faults that it saves.
fn in_huge_pages(len: usize) -> usize {
    match len % HUGE_PAGE_BYTES {
        0 => len,
        tail if tail < HUGE_PAGE_BYTES / 4 => len - tail,
        tail => len.saturating_add(HUGE_PAGE_BYTES - tail),
    }
}
