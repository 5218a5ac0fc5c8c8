//! Work on several items at once, by as many threads as the system grants.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use tensorlift_tensor_meta::Result;

/// Applies `work` to all items and returns the results in their order, or the error of the first
/// item that has one.
///
/// The calling thread works too, so this ends where the system refuses threads. The threads end
/// with the call: a pool of the process would not survive a fork.
pub(crate) fn map<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let count = items.len();
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let queue = Mutex::new(items.into_iter().enumerate());
    let results = Mutex::new(Vec::with_capacity(count));
    let take = || lock(&queue).next();
    let run = || {
        while let Some((position, item)) = take() {
            let result = work(item);
            if result.is_err() {
                // Items are taken in order, so an earlier error is already on its way.
                lock(&queue).by_ref().for_each(drop);
            }
            lock(&results).push((position, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..cores.min(count) {
            if let Err(error) = Builder::new().spawn_scoped(scope, run) {
                tracing::warn!("going on with fewer threads: {error}");
                break;
            }
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|&(position, _)| position);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A thread that panicked leaves the queue and the results whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tensorlift_tensor_meta::{Error, ErrorKind};

    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let doubled = map((0..1000).collect(), |number: u32| Ok(number * 2)).unwrap();
        assert_eq!(doubled, (0..2000).step_by(2).collect::<Vec<_>>());
        assert!(map(Vec::<u32>::new(), Ok).unwrap().is_empty());
    }

    #[test]
    fn the_first_error_counts() {
        for _ in 0..100 {
            let result = map((0..100).collect(), |number: u32| match number {
                30.. => Err(Error::new(ErrorKind::Misuse, number.to_string())),
                _ => Ok(()),
            });
            assert_eq!(result.unwrap_err().to_string(), "30");
        }
    }
}
