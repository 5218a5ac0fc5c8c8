use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tensorlift_tensor_meta::{Error, ErrorKind};

/// The limit on what all loads that share it use together.
///
/// Nothing here waits, so loads cannot deadlock: a load takes what is left, and at least one
/// thread, one shard and the staging slots of one thread. [`Budget::process`] is the default of the
/// process.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    used: Mutex<Used>,
}

/// The ceilings of a [`Budget`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetLimits {
    /// Bytes that loads under way may have allocated and not yet handed out. Default: the free
    /// memory of the devices.
    pub memory_bytes: Option<u64>,
    /// Bytes of staging slots, every slot of every reading thread. Default: 256 MiB.
    pub staging_bytes: u64,
    /// Reading threads. Default: 64.
    pub threads: usize,
    /// Shards that are read at the same time; each takes up to two descriptors. While one thread
    /// ends a shard, each other thread may have opened the next. Default: 32.
    pub open_shards: usize,
}

#[derive(Debug, Default)]
struct Used {
    memory: u64,
    /// The part of `memory` that is not filled yet.
    unfilled: u64,
    staging: u64,
    threads: usize,
    shards: usize,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            staging_bytes: 256 << 20,
            threads: 64,
            open_shards: 32,
        }
    }
}

impl Budget {
    /// A separate budget, for loads that should not share the process's.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            used: Mutex::default(),
        })
    }

    /// The budget that loads share unless they are given another.
    #[must_use]
    pub fn process() -> Arc<Self> {
        static PROCESS: LazyLock<Arc<Budget>> =
            LazyLock::new(|| Budget::new(BudgetLimits::default()));
        Arc::clone(&PROCESS)
    }

    /// Bytes that loads under way have reserved and not filled yet.
    pub(crate) fn unfilled(&self) -> u64 {
        self.lock().unfilled
    }

    /// Takes memory for a load, which may take `limit` bytes itself, or refuses it.
    pub(crate) fn memory(self: &Arc<Self>, bytes: u64, limit: Option<u64>) -> Result<Share, Error> {
        let mut used = self.lock();
        if let Some(limit) = self.limits.memory_bytes {
            let others = used.memory;
            if others.saturating_add(bytes) > limit {
                let found = format!(
                    "the tensors need {bytes} bytes of memory; other loads have {others} of the \
                     budget of {limit}"
                );
                return Err(Error::new(ErrorKind::LimitExceeded, found)
                    .with_remedy("raise the budget, or wait for the other loads"));
            }
        }
        used.memory = used.memory.saturating_add(bytes);
        used.unfilled = used.unfilled.saturating_add(bytes);
        drop(used);
        let taken = Used {
            memory: bytes,
            unfilled: bytes,
            ..Used::default()
        };
        Ok(Share {
            budget: Arc::clone(self),
            limit,
            taken: Mutex::new(taken),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a budget that one load holds; returned on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    /// The load's own ceiling of memory, in bytes.
    limit: Option<u64>,
    taken: Mutex<Used>,
}

/// What each reading thread needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Bytes of staging slots.
    pub(crate) staging_bytes: u64,
    /// Bytes of memory to read into beside the groups, where a file says how many.
    pub(crate) scratch_bytes: u64,
}

impl Share {
    /// Refuses a load of which not even one thread can have the scratch memory that it needs.
    pub(crate) fn check_scratch(&self, bytes: u64) -> Result<(), Error> {
        let (used, taken) = (self.budget.lock(), self.lock());
        match self.memory_left(&used, &taken) {
            Some(left) if left < bytes => {
                let found = format!(
                    "records that are inflated or put in order need {bytes} bytes of memory \
                     beside the tensors; {left} of the limit are left"
                );
                Err(Error::new(ErrorKind::LimitExceeded, found)
                    .with_remedy("raise the limit, or select fewer tensors"))
            }
            _ => Ok(()),
        }
    }

    /// The memory that this load may still take; `None` without a ceiling.
    fn memory_left(&self, used: &Used, taken: &Used) -> Option<u64> {
        let left = |limit: Option<u64>, used: u64| Some(limit?.saturating_sub(used));
        let shared = left(self.budget.limits.memory_bytes, used.memory);
        let own = left(self.limit, taken.memory);
        shared.into_iter().chain(own).min()
    }

    /// Takes up to `wanted` more threads, as many as are left and as staging slots and scratch
    /// memory for each are left for; one if the load has none yet.
    pub(crate) fn threads(&self, wanted: usize, needs: Needs) -> usize {
        let (mut used, mut taken) = (self.budget.lock(), self.lock());
        let limits = &self.budget.limits;
        let left = limits.threads.saturating_sub(used.threads);
        let staged = limits.staging_bytes.saturating_sub(used.staging);
        let staged = staged.checked_div(needs.staging_bytes);
        let memory = self.memory_left(&used, &taken);
        let scratch = memory.and_then(|left| left.checked_div(needs.scratch_bytes));
        let most = staged.into_iter().chain(scratch).min();
        let granted = wanted
            .min(left)
            .min(most.map_or(wanted, |count| count as usize))
            .max(usize::from(taken.threads == 0));
        let bytes = |each: u64| each.saturating_mul(granted as u64);
        for taken in [&mut *used, &mut *taken] {
            taken.threads += granted;
            taken.staging = taken.staging.saturating_add(bytes(needs.staging_bytes));
            taken.memory = taken.memory.saturating_add(bytes(needs.scratch_bytes));
        }
        granted
    }

    /// Takes up to `wanted` shards to have open at once; at least one.
    pub(crate) fn open_shards(&self, wanted: usize) -> usize {
        let (mut used, mut taken) = (self.budget.lock(), self.lock());
        let left = self.budget.limits.open_shards.saturating_sub(used.shards);
        let granted = wanted.min(left).max(1);
        used.shards += granted;
        taken.shards += granted;
        granted
    }

    /// Records that `bytes` were filled, so that the system counts them as used.
    pub(crate) fn filled(&self, bytes: u64) {
        let (mut used, mut taken) = (self.budget.lock(), self.lock());
        let bytes = bytes.min(taken.unfilled);
        taken.unfilled -= bytes;
        used.unfilled -= bytes;
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let (mut used, taken) = (self.budget.lock(), self.lock());
        used.memory -= taken.memory;
        used.unfilled -= taken.unfilled;
        used.staging -= taken.staging;
        used.threads -= taken.threads;
        used.shards -= taken.shards;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limits: BudgetLimits) -> Arc<Budget> {
        Budget::new(limits)
    }

    fn staging(staging_bytes: u64) -> Needs {
        Needs {
            staging_bytes,
            scratch_bytes: 0,
        }
    }

    #[test]
    fn a_load_takes_what_is_left_and_gives_it_back() {
        let budget = budget(BudgetLimits {
            threads: 5,
            open_shards: 3,
            ..BudgetLimits::default()
        });
        let one = budget.memory(10, None).unwrap();
        let other = budget.memory(10, None).unwrap();
        assert_eq!(
            (
                one.threads(4, staging(0)),
                other.threads(4, staging(0)),
                other.threads(4, staging(0))
            ),
            (4, 1, 0)
        );
        assert_eq!((one.open_shards(4), other.open_shards(4)), (3, 1));
        drop(one);
        assert_eq!(other.threads(9, staging(0)), 4);
        drop(other);
        let used = budget.lock();
        assert_eq!(
            (used.memory, used.threads, used.shards, used.unfilled),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn nobody_goes_without_a_thread() {
        let budget = budget(BudgetLimits {
            threads: 0,
            staging_bytes: 0,
            ..Default::default()
        });
        let shares: Vec<_> = (0..3).map(|_| budget.memory(1, None).unwrap()).collect();
        assert!(
            shares
                .iter()
                .all(|share| share.threads(8, staging(1 << 20)) == 1)
        );
    }

    #[test]
    fn staging_bytes_limit_threads() {
        let budget = budget(BudgetLimits {
            staging_bytes: 100,
            ..BudgetLimits::default()
        });
        let share = budget.memory(1, None).unwrap();
        assert_eq!(
            (share.threads(8, staging(30)), share.threads(8, staging(30))),
            (3, 0)
        );
    }

    #[test]
    fn memory_is_refused_not_awaited() {
        let budget = budget(BudgetLimits {
            memory_bytes: Some(100),
            ..BudgetLimits::default()
        });
        let one = budget.memory(70, None).unwrap();
        assert_eq!(
            budget.memory(31, None).unwrap_err().kind(),
            ErrorKind::LimitExceeded
        );
        one.filled(50);
        assert_eq!(budget.unfilled(), 20);
        drop(one);
        budget.memory(100, None).unwrap();
    }

    #[test]
    fn scratch_memory_is_counted_and_limits_threads() {
        let budget = budget(BudgetLimits {
            memory_bytes: Some(1000),
            ..BudgetLimits::default()
        });
        let needs = |scratch_bytes| Needs {
            staging_bytes: 0,
            scratch_bytes,
        };
        let other = budget.memory(100, None).unwrap();
        let share = budget.memory(300, Some(700)).unwrap();
        share.check_scratch(400).unwrap();
        // Its own ceiling leaves 400 bytes, the shared one 600.
        let error = share.check_scratch(401).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert_eq!(share.threads(8, needs(150)), 2);
        assert_eq!(budget.lock().memory, 700);
        assert_eq!(other.threads(8, needs(150)), 2);
        assert_eq!(budget.lock().memory, 1000);
        drop((share, other));
        assert_eq!(budget.lock().memory, 0);
    }
}
