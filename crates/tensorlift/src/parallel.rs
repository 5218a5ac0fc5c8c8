//! Work on several items at once, by as many threads as the system grants.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use tensorlift_tensor_meta::{Error, Result};

/// Applies `work` to all items and returns the results in their order, or the error of the first
/// item that has one.
///
/// The calling thread works too, so this ends where the system refuses threads. Items that failed
/// for lack of a descriptor are tried again, one after another.
/// The threads end with the call, since a process-wide pool would not survive a fork.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        while let Some((position, item)) = take(items, &next) {
            let result = work(item);
            if result
                .as_ref()
                .is_err_and(|error| !lacks_descriptors(error))
            {
                // Items are taken in order, so an earlier error is already on its way.
                next.store(items.len(), Ordering::Relaxed);
            }
            lock(&results).push((position, result));
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 1..cores.min(items.len()) {
            if let Err(error) = Builder::new().spawn_scoped(scope, run) {
                tracing::warn!("going on with fewer threads: {error}");
                break;
            }
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|&(position, _)| position);
    let again = |(position, result): (usize, Result<R>)| match result {
        Err(error) if lacks_descriptors(&error) => work(&items[position]),
        result => result,
    };
    results.into_iter().map(again).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    Some((position, items.get(position)?))
}

/// Whether the process or the system has run out of descriptors.
fn lacks_descriptors(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.get_ref());
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // EMFILE and ENFILE.
            return cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24));
        }
        cause = error.source();
    }
    false
}

/// A panic does not leave results half written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tensorlift_tensor_meta::ErrorKind;

    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        let doubled = map(&items, |number| Ok(number * 2)).unwrap();
        assert_eq!(doubled, (0..2000).step_by(2).collect::<Vec<_>>());
        assert!(map(&[], |&(): &()| Ok(())).unwrap().is_empty());
    }

    #[test]
    fn the_first_error_counts() {
        let items: Vec<u32> = (0..100).collect();
        for _ in 0..100 {
            let result = map(&items, |number| match number {
                30.. => Err(Error::new(ErrorKind::Misuse, number.to_string())),
                _ => Ok(()),
            });
            assert_eq!(result.unwrap_err().to_string(), "30");
        }
    }

    #[test]
    #[cfg(unix)]
    fn items_without_a_descriptor_are_tried_again_alone() {
        let open = AtomicUsize::new(0);
        let few = || Error::new(ErrorKind::Storage, io::Error::from_raw_os_error(24));
        let opened = map(&[(); 100], |()| {
            let others = open.fetch_add(1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_micros(100));
            open.fetch_sub(1, Ordering::SeqCst);
            if others == 0 { Ok(()) } else { Err(few()) }
        });
        assert_eq!(opened.unwrap().len(), 100);
        assert_eq!(
            map(&[()], |()| Err::<(), _>(few())).unwrap_err().kind(),
            ErrorKind::Storage
        );
    }
}
