//! How many reads are in flight: measured on the load's own first bytes, which are kept.
//!
//! The load begins with as many as its reader is known to like.
//! Once enough has been read to tell a rate, twice as many are tried; if that was faster, twice
//! as many again, until it is not; then the best stays.
//! If the first doubling was no gain, half as many are tried the same way.
//! A shard that is opened later and likes more than those before it begins this anew.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::report::PaceStep;

/// The most reads in flight that are ever tried.
const MOST_THREADS: usize = 32;
/// A rate is told by at least this much.
const WINDOW_BYTES: u64 = 64 << 20;
const WINDOW_TIME: Duration = Duration::from_millis(100);
/// Reads per thread that a rate is told by at least, where reads are small or slow.
const WINDOW_READS: usize = 3;
/// What counts as faster, against noise.
const GAIN: f64 = 1.15;

/// The governor of one load.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
}

/// How the reader of a shard likes to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Reads in flight to begin with.
    pub(super) threads: usize,
    /// Whether more or fewer may be faster.
    pub(super) adapts: bool,
}

impl Wish {
    /// Of nothing to be read.
    pub(super) const NONE: Self = Self {
        threads: 1,
        adapts: false,
    };

    /// What suits both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            adapts: self.adapts || other.adapts,
        }
    }
}

#[derive(Debug)]
struct State {
    threads: usize,
    most: usize,
    /// What the shards so far like together; none where the number is not to change.
    wish: Option<Wish>,
    direction: Direction,
    best: Option<PaceStep>,
    window: Window,
    steps: Vec<PaceStep>,
    /// Steps that were measured before the last beginning.
    steps_before: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Up,
    Down,
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    bytes: u64,
    reads: usize,
}

impl Pace {
    /// A load that begins with `threads`, as far as they were granted of what its first shards
    /// wish, and may come to use up to `most`; without a wish, the number stays.
    pub(super) fn new(threads: usize, most: usize, wish: Option<Wish>, now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                threads,
                most: most.min(MOST_THREADS).max(threads),
                wish,
                direction: Direction::first(wish.unwrap_or(Wish::NONE)),
                best: None,
                window: Window::from(now),
                steps: Vec::new(),
                steps_before: 0,
            }),
        }
    }

    /// Tells what a shard wishes that was just opened.
    pub(super) fn widen(&self, wish: Wish, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = state.wish else { return };
        let both = before.or(wish);
        state.wish = Some(both);
        if both != before {
            state.threads = wish.threads.min(state.most).max(state.threads);
            // What was measured so far was other storage.
            state.direction = Direction::first(both);
            state.best = None;
            state.steps_before = state.steps.len();
            state.window = Window::from(now);
        }
    }

    /// Tells that there will be no more than so many threads: the budget has no more.
    pub(super) fn cap(&self, threads: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.most = threads.max(1);
        state.threads = state.threads.min(state.most);
    }

    /// Counts a read, and returns how many threads there should be from now on.
    pub(super) fn record(&self, bytes: u64, now: Instant) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.direction != Direction::Settled {
            state.record(bytes, now);
        }
        state.threads
    }

    /// What was tried, in order, and the number of threads at the end.
    pub(super) fn finish(self) -> (Vec<PaceStep>, usize) {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (state.steps, state.threads)
    }
}

impl Direction {
    fn first(wish: Wish) -> Self {
        match wish.adapts {
            true => Direction::Up,
            false => Direction::Settled,
        }
    }
}

impl State {
    fn record(&mut self, bytes: u64, now: Instant) {
        self.window.bytes += bytes;
        self.window.reads += 1;
        let time = now.saturating_duration_since(self.window.since);
        let enough = self.window.bytes >= WINDOW_BYTES || self.window.reads >= 64;
        let spread = self.window.reads >= WINDOW_READS * self.threads;
        if !enough || !spread || time < WINDOW_TIME {
            return;
        }
        let rate = self.window.bytes as f64 / time.as_secs_f64();
        let step = PaceStep {
            threads: self.threads,
            bytes_per_second: rate,
        };
        self.steps.push(step);
        self.window = Window::from(now);
        self.decide(step);
    }

    fn decide(&mut self, step: PaceStep) {
        let faster = self
            .best
            .is_none_or(|best| step.bytes_per_second > best.bytes_per_second * GAIN);
        if faster {
            self.best = Some(step);
        }
        let settle = self.best.map_or(step.threads, |best| best.threads);
        // The second step down has nothing to gain from turning around.
        let measured = self.steps.len() - self.steps_before;
        let may_turn = measured == 2 && self.direction == Direction::Up;
        let next = match (self.direction, faster) {
            (Direction::Up, true) => (step.threads * 2).min(self.most),
            (Direction::Up, false) if may_turn && settle > 1 => {
                self.direction = Direction::Down;
                settle / 2
            }
            (Direction::Down, true) if step.threads > 1 => step.threads / 2,
            _ => settle,
        };
        if next == settle {
            self.direction = Direction::Settled;
        }
        self.threads = next;
        tracing::debug!(?step, next, "reads in flight");
    }
}

impl Window {
    fn from(since: Instant) -> Self {
        Self {
            since,
            bytes: 0,
            reads: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(threads: usize, adapts: bool) -> Wish {
        Wish { threads, adapts }
    }

    /// Feeds reads of 4 MiB from storage of which `rate` tells the bytes per second for a number
    /// of threads; returns where the pace settles, and after how many reads.
    fn settle(start: usize, rate: impl Fn(usize) -> f64) -> (usize, usize) {
        let mut now = Instant::now();
        let pace = Pace::new(start, 64, Some(wish(start, true)), now);
        let mut threads = start;
        for read in 0..10_000 {
            let bytes = 4 << 20;
            now += Duration::from_secs_f64(bytes as f64 / rate(threads));
            threads = pace.record(bytes, now);
            if pace.state.lock().unwrap().direction == Direction::Settled {
                return (threads, read);
            }
        }
        panic!("does not settle");
    }

    #[test]
    fn storage_with_latency_gets_more_in_flight() {
        // 20 ms for each read, whatever is in flight.
        let (threads, reads) = settle(4, |threads| threads as f64 * 4e6 / 0.02);
        assert_eq!(threads, MOST_THREADS);
        assert!(reads < 400, "{reads} reads");
    }

    #[test]
    fn storage_that_is_at_its_limit_keeps_what_it_has() {
        let (threads, _) = settle(8, |_| 2e9);
        assert_eq!(threads, 8);
        let (threads, _) = settle(8, |threads| (threads as f64 * 0.5e9).min(4e9));
        assert_eq!(threads, 8);
    }

    #[test]
    fn storage_that_suffers_gets_fewer() {
        let (threads, _) = settle(8, |threads| 1e9 / threads as f64);
        assert_eq!(threads, 1);
    }

    #[test]
    fn storage_with_a_knee_is_left_at_the_knee() {
        let (threads, _) = settle(4, |threads| (threads as f64 * 0.2e9).min(3.2e9));
        assert_eq!(threads, 16);
    }

    #[test]
    fn a_shard_that_likes_more_begins_anew() {
        let now = Instant::now();
        let pace = Pace::new(2, 64, Some(wish(2, false)), now);
        let state = |pace: &Pace| {
            let state = pace.state.lock().unwrap();
            (state.threads, state.direction)
        };
        pace.widen(wish(2, false), now);
        assert_eq!(state(&pace), (2, Direction::Settled));
        pace.widen(wish(8, true), now);
        assert_eq!(state(&pace), (8, Direction::Up));

        // Once that has settled on fewer, the next one of the kind changes nothing.
        let mut later = now;
        while state(&pace).1 != Direction::Settled {
            later += Duration::from_millis(4 * state(&pace).0 as u64);
            pace.record(4 << 20, later);
        }
        assert_eq!(state(&pace).0, 1);
        pace.widen(wish(8, true), later);
        assert_eq!(state(&pace), (1, Direction::Settled));
        pace.widen(wish(9, false), later);
        assert_eq!(state(&pace), (9, Direction::Up));
    }

    #[test]
    fn a_number_that_was_asked_for_stays() {
        let now = Instant::now();
        let pace = Pace::new(3, 64, None, now);
        pace.widen(wish(8, true), now);
        assert_eq!(pace.finish(), (Vec::new(), 3));
    }
}
