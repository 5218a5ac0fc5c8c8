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

    /// Takes memory for a load, or refuses it.
    pub(crate) fn memory(self: &Arc<Self>, bytes: u64) -> Result<Share, Error> {
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
    taken: Mutex<Used>,
}

impl Share {
    /// Takes up to `wanted` more threads, as many as are left and as staging slots of
    /// `staging_bytes` for each are left for; one if the load has none yet.
    pub(crate) fn threads(&self, wanted: usize, staging_bytes: u64) -> usize {
        let (mut used, mut taken) = (self.budget.lock(), self.lock());
        let limits = &self.budget.limits;
        let left = limits.threads.saturating_sub(used.threads);
        let staged = limits.staging_bytes.saturating_sub(used.staging);
        let staged = staged
            .checked_div(staging_bytes)
            .map_or(wanted, |count| count as usize);
        let granted = wanted
            .min(left)
            .min(staged)
            .max(usize::from(taken.threads == 0));
        let bytes = staging_bytes.saturating_mul(granted as u64);
        used.threads += granted;
        used.staging = used.staging.saturating_add(bytes);
        taken.threads += granted;
        taken.staging = taken.staging.saturating_add(bytes);
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

    #[test]
    fn a_load_takes_what_is_left_and_gives_it_back() {
        let budget = budget(BudgetLimits {
            threads: 5,
            open_shards: 3,
            ..BudgetLimits::default()
        });
        let one = budget.memory(10).unwrap();
        let other = budget.memory(10).unwrap();
        assert_eq!(
            (one.threads(4, 0), other.threads(4, 0), other.threads(4, 0)),
            (4, 1, 0)
        );
        assert_eq!((one.open_shards(4), other.open_shards(4)), (3, 1));
        drop(one);
        assert_eq!(other.threads(9, 0), 4);
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
        let shares: Vec<_> = (0..3).map(|_| budget.memory(1).unwrap()).collect();
        assert!(shares.iter().all(|share| share.threads(8, 1 << 20) == 1));
    }

    #[test]
    fn staging_bytes_limit_threads() {
        let budget = budget(BudgetLimits {
            staging_bytes: 100,
            ..BudgetLimits::default()
        });
        let share = budget.memory(1).unwrap();
        assert_eq!((share.threads(8, 30), share.threads(8, 30)), (3, 0));
    }

    #[test]
    fn memory_is_refused_not_awaited() {
        let budget = budget(BudgetLimits {
            memory_bytes: Some(100),
            ..BudgetLimits::default()
        });
        let one = budget.memory(70).unwrap();
        assert_eq!(
            budget.memory(31).unwrap_err().kind(),
            ErrorKind::LimitExceeded
        );
        one.filled(50);
        assert_eq!(budget.unfilled(), 20);
        drop(one);
        budget.memory(100).unwrap();
    }
}
