use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The lanes of a device, lent to reading threads in the order in which they ask.
///
/// For devices behind staging slots: concurrent loads, or more readers than lanes, alternate, and
/// none waits for the end of another load.
///
/// ```
/// use tensorlift_device::LanePool;
///
/// let pool = LanePool::default();
/// pool.add("a lane");
/// let lane = pool.take();
/// assert_eq!(pool.free(), 0);
/// pool.give_back(lane);
/// ```
#[derive(Debug)]
pub struct LanePool<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    free: Vec<T>,
    /// Threads that have asked so far.
    asked: u64,
    /// Threads that were served so far.
    served: u64,
}

impl<T> LanePool<T> {
    /// Adds a lane.
    pub fn add(&self, lane: T) {
        self.lock().free.push(lane);
        self.changed.notify_all();
    }

    /// A free lane, once all earlier requests were served.
    pub fn take(&self) -> T {
        let mut state = self.lock();
        let ticket = state.asked;
        state.asked += 1;
        loop {
            if state.served == ticket
                && let Some(lane) = state.free.pop()
            {
                state.served += 1;
                // The next thread in line may continue.
                self.changed.notify_all();
                return lane;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns a lane.
    pub fn give_back(&self, lane: T) {
        self.add(lane);
    }

    /// Whether a thread is waiting for a lane.
    pub fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.asked > state.served
    }

    /// How many lanes are free.
    pub fn free(&self) -> usize {
        self.lock().free.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for LanePool<T> {
    /// A pool without lanes.
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                free: Vec::new(),
                asked: 0,
                served: 0,
            }),
            changed: Condvar::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_asks_again_comes_after_those_that_wait() {
        let pool = LanePool::default();
        pool.add(());
        pool.take();
        let (sender, order) = mpsc::channel();
        thread::scope(|scope| {
            for name in ["first", "second"] {
                let (sender, waiting) = (sender.clone(), pool.lock().asked);
                let pool = &pool;
                scope.spawn(move || {
                    pool.take();
                    sender.send(name).unwrap();
                    pool.give_back(());
                });
                while pool.lock().asked == waiting {
                    thread::yield_now();
                }
            }
            assert!(pool.is_wanted());
            pool.give_back(());
            pool.take();
            sender.send("third").unwrap();
        });
        assert!(!pool.is_wanted());
        let order: Vec<_> = order.try_iter().collect();
        assert_eq!(order, ["first", "second", "third"]);
    }
}
