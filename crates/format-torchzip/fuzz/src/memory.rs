//! An allocator that refuses what a reader must not take.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What a reader may take beyond the size of the file.
const SPARE_BYTES: usize = 64 << 20;

/// Does something that ends the process if it allocates more than the file's size and 64 MiB.
pub(crate) fn bounded<T>(file_len: u64, work: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated() + file_len as usize + SPARE_BYTES;
    ALLOCATOR
        .set_limit(limit)
        .expect("a limit above what is allocated");
    let done = work();
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("a limit above what is allocated");
    done
}

/// The most that was ever allocated at once, in bytes.
pub fn peak_bytes() -> usize {
    ALLOCATOR.max_allocated()
}
