//! How much memory the description of a file may take.

/// What a storage and the tensors in it take to describe, in bytes.
const STORAGE_BYTES: u64 = 1024;
/// The initial capacity of a growing vector.
const MIN_ITEMS: usize = 2;

/// The memory that is left for the description of a file.
///
/// Everything that grows with the content of a pickle is charged here before it is allocated, so
/// that a small file cannot cost more than a fixed amount. Each stage of reading owns the budget in
/// turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct DescriptionBudget {
    total: u64,
    left: u64,
}

/// The memory budget is used up, or the machine has no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfBudget {
    /// The ceiling and the bytes requested.
    Budget { total: u64, wanted: u64 },
    /// An allocation of this size failed.
    Memory { bytes: u64 },
}

impl DescriptionBudget {
    /// The budget for a file of `len` bytes that may cost `spare` bytes more than that.
    pub(crate) fn for_file(len: u64, spare: u64) -> Self {
        let total = len.saturating_add(spare);
        Self { total, left: total }
    }

    /// Takes `bytes` from what is left.
    pub(crate) fn charge(&mut self, bytes: u64) -> Result<(), OutOfBudget> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(OutOfBudget::Budget {
                total: self.total,
                wanted: (self.total - self.left).saturating_add(bytes),
            }),
        }
    }

    /// Makes room for `more` items in a growing vector. Until they have moved, its items are in
    /// two places, and both count.
    pub(crate) fn reserve<T>(&mut self, vec: &mut Vec<T>, more: usize) -> Result<(), OutOfBudget> {
        match vec.capacity() - vec.len() < more {
            true => self.grow(vec, more),
            false => Ok(()),
        }
    }

    fn grow<T>(&mut self, vec: &mut Vec<T>, more: usize) -> Result<(), OutOfBudget> {
        let bytes = |items: usize| (items as u64).saturating_mul(size_of::<T>() as u64);
        let (len, before) = (vec.len(), vec.capacity());
        // By half, since doubling leaves more of the budget unused.
        let wanted = (len + more).max(before + before / 2).max(MIN_ITEMS);
        self.charge(bytes(wanted))?;
        vec.try_reserve_exact(wanted - len)
            .map_err(|_| OutOfBudget::Memory {
                bytes: bytes(wanted),
            })?;
        self.refund(bytes(before));
        Ok(())
    }

    /// Makes room for the descriptions of `count` storages that were found in the file.
    ///
    /// A file that causes this must really hold them; it never adds more than three times the
    /// file's size.
    pub(crate) fn grow_for(&mut self, count: u64, file_len: u64) {
        let more = (count * STORAGE_BYTES).min(file_len.saturating_mul(3));
        self.total = self.total.saturating_add(more);
        self.left = self.left.saturating_add(more);
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Returns what was charged for memory that is free again.
    pub(crate) fn refund(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_says_what_was_wanted() {
        let mut budget = DescriptionBudget::for_file(100, 1000);
        budget.charge(1000).unwrap();
        budget.charge(99).unwrap();
        let expected = OutOfBudget::Budget {
            total: 1100,
            wanted: 1101,
        };
        assert_eq!(budget.charge(2), Err(expected));
        budget.refund(1);
        budget.charge(2).unwrap();
    }

    #[test]
    fn a_growing_vector_is_paid_for_in_both_its_places() {
        let mut budget = DescriptionBudget::for_file(0, 100);
        let mut vec = vec![0u32; 8];
        budget.charge(32).unwrap();
        budget.reserve(&mut vec, 1).unwrap();
        assert_eq!((vec.capacity(), budget.left()), (12, 52));
        // Eighteen items, while twelve stay until they are moved.
        vec.resize(12, 0);
        let expected = OutOfBudget::Budget {
            total: 100,
            wanted: 48 + 72,
        };
        assert_eq!(budget.reserve(&mut vec, 1), Err(expected));
        assert_eq!(vec.capacity(), 12);
    }

    #[test]
    fn memory_that_the_machine_lacks_is_an_error() {
        let mut budget = DescriptionBudget::for_file(0, u64::MAX);
        let error = budget.reserve(&mut Vec::<u64>::new(), usize::MAX / 8);
        assert!(matches!(error, Err(OutOfBudget::Memory { .. })));
    }
}
