use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorlift_storage::Anonymous;

/// Host memory that is kept for the next load.
///
/// The first touch of memory costs a fault for each page, which for a load from the page cache is
/// most of its time; memory from a pool has been touched before.
/// In BENCHMARKS.md (Several loads), a second load took 0.77 of the time of a first one.
/// For programs that load again and again: model servers that swap models, tests, benchmarks.
///
/// ```
/// use tensorlift_device::{Device, GroupRequest, HostDevice, HostPool};
///
/// let pool = HostPool::new(64 << 20);
/// let device = HostDevice::new().with_pool(pool.clone());
/// let group = device.allocate(&GroupRequest::new(4 << 20))?;
/// drop(group);
/// assert_eq!(pool.kept_bytes(), 4 << 20);
/// # Ok::<(), tensorlift_device::DeviceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HostPool {
    kept: Arc<Mutex<Kept>>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    memory: Vec<Anonymous>,
    /// True if the load was admitted on the promise of reusing pooled memory.
    counted_on: bool,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.memory.iter().map(|memory| memory.len()).sum()
    }
}

impl HostPool {
    /// A pool that keeps at most `most_bytes` bytes that no tensor uses.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        Self {
            kept: Arc::default(),
            most_bytes,
        }
    }

    /// The bytes that are kept and not in use.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Returns all memory that is not in use to the system.
    pub fn clear(&self) {
        self.lock().memory.clear();
    }

    /// Whether a load of `bytes` fits into the system's free memory plus the kept memory.
    pub(crate) fn reserve(&self, bytes: u64, free: u64) -> bool {
        let mut kept = self.lock();
        kept.counted_on |= bytes > free;
        bytes <= free.saturating_add(kept.bytes() as u64)
    }

    /// Memory of at least `bytes` bytes: the smallest kept one, unless it is more than twice as
    /// large, or new memory.
    pub(crate) fn take(&self, bytes: usize) -> io::Result<Anonymous> {
        let mut kept = self.lock();
        let fits = |memory: &Anonymous| (bytes..=bytes.saturating_mul(2)).contains(&memory.len());
        let best = (0..kept.memory.len())
            .filter(|&index| fits(&kept.memory[index]))
            .min_by_key(|&index| kept.memory[index].len());
        match best {
            Some(index) => Ok(kept.memory.swap_remove(index)),
            None => {
                // New memory in addition to the kept memory would be more than the system has.
                if std::mem::take(&mut kept.counted_on) {
                    kept.memory.clear();
                }
                drop(kept);
                Anonymous::new(bytes)
            }
        }
    }

    /// Keeps released memory if there is room.
    pub(crate) fn give_back(&self, memory: Anonymous) {
        let mut kept = self.lock();
        if kept.bytes().saturating_add(memory.len()) <= self.most_bytes {
            kept.memory.push(memory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_fits_is_used_again() {
        let pool = HostPool::new(10_000);
        let (small, large) = (pool.take(3000).unwrap(), pool.take(6000).unwrap());
        let address = small.as_ptr();
        pool.give_back(small);
        pool.give_back(large);
        assert_eq!(pool.kept_bytes(), 9000);
        assert_eq!(pool.take(2000).unwrap().as_ptr(), address);
        // What is left is more than twice as large.
        assert_eq!(pool.take(2000).unwrap().len(), 2000);
        assert_eq!(pool.kept_bytes(), 6000);
    }

    #[test]
    fn what_is_kept_counts_as_free() {
        let pool = HostPool::new(10_000);
        pool.give_back(pool.take(6000).unwrap());
        assert!(pool.reserve(9000, 3000));
        assert!(!pool.reserve(9001, 3000));
    }

    #[test]
    fn what_is_kept_makes_room_if_it_was_counted_on() {
        let pool = HostPool::new(10_000);
        pool.give_back(pool.take(6000).unwrap());
        // Free memory is enough.
        assert!(pool.reserve(1000, 1000));
        pool.take(1000).unwrap();
        assert_eq!(pool.kept_bytes(), 6000);
        assert!(pool.reserve(1000, 999));
        // Another load in between changes nothing.
        assert!(pool.reserve(1000, 1000));
        pool.take(1000).unwrap();
        assert_eq!(pool.kept_bytes(), 0);
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let pool = HostPool::new(5000);
        pool.give_back(Anonymous::new(4000).unwrap());
        pool.give_back(Anonymous::new(4000).unwrap());
        assert_eq!(pool.kept_bytes(), 4000);
        pool.clear();
        assert_eq!(pool.kept_bytes(), 0);
    }
}
