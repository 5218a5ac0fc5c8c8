//! How many reads are in flight: measured on the load's own first bytes, which are kept.
//!
//! A load starts with the concurrency its readers prefer.
//! Once a measurement of reads gives a rate, it tries twice as many threads and doubles again while the
//! rate grows; then it keeps the best number.
//! If the first doubling gains nothing, it tries half as many the same way.
//! A shard that is opened later and prefers more than those before it restarts the search.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::report::PaceStep;

/// The most reads in flight that are tried.
const MOST_THREADS: usize = 32;
/// A measurement that gives a rate has at least these bytes and this time.
const LEAST_BYTES: u64 = 64 << 20;
const LEAST_TIME: Duration = Duration::from_millis(100);
/// The least reads per thread of a measurement, where reads are small or slow.
const LEAST_READS: usize = 3;
/// A rate is faster from this factor on; less is noise.
const GAIN: f64 = 1.15;

/// The adaptive number of reading threads of one load.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<PaceState>,
}

/// The concurrency that a reader prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Concurrency {
    /// Reads in flight to begin with.
    pub(super) threads: usize,
    /// Whether more or fewer may be faster.
    pub(super) adapts: bool,
}

impl Concurrency {
    /// One thread, unchanged.
    pub(super) const ONE: Self = Self {
        threads: 1,
        adapts: false,
    };

    /// The larger of two preferences.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            adapts: self.adapts || other.adapts,
        }
    }
}

#[derive(Debug)]
struct PaceState {
    threads: usize,
    most: usize,
    /// What the shards so far prefer; `None` keeps the number fixed.
    preferred: Option<Concurrency>,
    direction: Direction,
    best: Option<PaceStep>,
    measurement: Measurement,
    steps: Vec<PaceStep>,
    /// Steps that were measured before the search last restarted.
    steps_before: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Up,
    Down,
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Measurement {
    since: Instant,
    bytes: u64,
    reads: usize,
}

impl Pace {
    /// Starts with `threads`, may grow to `most`; without a preferred concurrency the number is
    /// fixed.
    pub(super) fn new(
        threads: usize,
        most: usize,
        preferred: Option<Concurrency>,
        now: Instant,
    ) -> Self {
        Self {
            state: Mutex::new(PaceState {
                threads,
                most: most.min(MOST_THREADS).max(threads),
                preferred,
                direction: Direction::first(preferred.unwrap_or(Concurrency::ONE)),
                best: None,
                measurement: Measurement::from(now),
                steps: Vec::new(),
                steps_before: 0,
            }),
        }
    }

    /// Records the preferred concurrency of a newly opened shard.
    pub(super) fn widen(&self, preferred: Concurrency, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = state.preferred else {
            return;
        };
        let both = before.max(preferred);
        state.preferred = Some(both);
        if both != before {
            state.threads = preferred.threads.min(state.most).max(state.threads);
            // The rates so far belong to other storage.
            state.direction = Direction::first(both);
            state.best = None;
            state.steps_before = state.steps.len();
            state.measurement = Measurement::from(now);
        }
    }

    /// Limits the number to `threads`: neither budget nor system has more.
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

    /// The rates measured, in order, and the final number of threads.
    pub(super) fn finish(self) -> (Vec<PaceStep>, usize) {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (state.steps, state.threads)
    }
}

impl Direction {
    fn first(preferred: Concurrency) -> Self {
        match preferred.adapts {
            true => Direction::Up,
            false => Direction::Settled,
        }
    }
}

impl PaceState {
    fn record(&mut self, bytes: u64, now: Instant) {
        self.measurement.bytes += bytes;
        self.measurement.reads += 1;
        let time = now.saturating_duration_since(self.measurement.since);
        let enough = self.measurement.bytes >= LEAST_BYTES || self.measurement.reads >= 64;
        let spread = self.measurement.reads >= LEAST_READS * self.threads;
        if !enough || !spread || time < LEAST_TIME {
            return;
        }
        let rate = self.measurement.bytes as f64 / time.as_secs_f64();
        let step = PaceStep {
            threads: self.threads,
            bytes_per_second: rate,
        };
        self.steps.push(step);
        self.measurement = Measurement::from(now);
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
        // After the second step down, turning around gains nothing.
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

impl Measurement {
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

    fn preferred(threads: usize, adapts: bool) -> Concurrency {
        Concurrency { threads, adapts }
    }

    /// Feeds reads of 4 MiB from storage of which `rate` tells the bytes per second for a number
    /// of threads; returns where the pace settles, and after how many reads.
    fn settle(start: usize, rate: impl Fn(usize) -> f64) -> (usize, usize) {
        let mut now = Instant::now();
        let pace = Pace::new(start, 64, Some(preferred(start, true)), now);
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
    fn storage_that_slows_down_under_load_gets_fewer() {
        let (threads, _) = settle(8, |threads| 1e9 / threads as f64);
        assert_eq!(threads, 1);
    }

    #[test]
    fn storage_with_a_knee_is_left_at_the_knee() {
        let (threads, _) = settle(4, |threads| (threads as f64 * 0.2e9).min(3.2e9));
        assert_eq!(threads, 16);
    }

    #[test]
    fn a_shard_that_prefers_more_restarts_the_search() {
        let now = Instant::now();
        let pace = Pace::new(2, 64, Some(preferred(2, false)), now);
        let state = |pace: &Pace| {
            let state = pace.state.lock().unwrap();
            (state.threads, state.direction)
        };
        pace.widen(preferred(2, false), now);
        assert_eq!(state(&pace), (2, Direction::Settled));
        pace.widen(preferred(8, true), now);
        assert_eq!(state(&pace), (8, Direction::Up));

        // Once that has settled on fewer, the next one of the kind changes nothing.
        let mut later = now;
        while state(&pace).1 != Direction::Settled {
            later += Duration::from_millis(4 * state(&pace).0 as u64);
            pace.record(4 << 20, later);
        }
        assert_eq!(state(&pace).0, 1);
        pace.widen(preferred(8, true), later);
        assert_eq!(state(&pace), (1, Direction::Settled));
        pace.widen(preferred(9, false), later);
        assert_eq!(state(&pace), (9, Direction::Up));
    }

    #[test]
    fn a_number_that_was_requested_stays() {
        let now = Instant::now();
        let pace = Pace::new(3, 64, None, now);
        pace.widen(preferred(8, true), now);
        assert_eq!(pace.finish(), (Vec::new(), 3));
    }
}
