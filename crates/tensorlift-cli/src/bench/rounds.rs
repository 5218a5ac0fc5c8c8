//! Rounds in which every candidate has its turn, each after the page cache was brought to a state.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use tensorlift::{CancelToken, Checkpoint, Error, ErrorKind, Loaded, ReaderKind, Result};
use tensorlift_device::measure::bring;
use tensorlift_storage::StorageExt;
use tensorlift_storage::measure::{Joined, cool, warm};

use super::Start;
use super::candidates::{Axis, Candidate, Work};
use crate::device::Named;
use crate::interrupt;
use crate::progress::Steps;

/// The most bytes that are copied to measure copies alone.
const COPIED_BYTES: u64 = 1 << 30;
/// Bytes of one read of a bare pipeline, unless slots are smaller.
const PIPELINE_BYTES: usize = 2 << 20;

/// What a candidate reached.
pub(super) struct Measured {
    pub(super) candidate: Candidate,
    /// Gigabytes (10⁹ bytes) per second of each round.
    pub(super) rates: Vec<f64>,
    /// Threads that read at the end of the last round.
    pub(super) threads: Option<usize>,
    /// Readers that ran in the last round.
    pub(super) readers: Vec<&'static str>,
    /// Why it was not measured.
    pub(super) not_run: Option<String>,
}

/// Everything that rounds share.
pub(super) struct Rounds<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) device: &'a Named,
    pub(super) files: &'a [PathBuf],
    /// Bytes of the files.
    pub(super) bytes: u64,
    pub(super) count: usize,
    pub(super) cancel: CancelToken,
}

/// What one turn brought.
#[derive(Default)]
struct Turn {
    bytes: u64,
    seconds: f64,
    threads: Option<usize>,
    readers: Vec<&'static str>,
}

impl Measured {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            rates: Vec::new(),
            threads: None,
            readers: Vec::new(),
            not_run: None,
        }
    }

    /// The median of the rates; of an even number of them, the mean of the middle two.
    pub(super) fn median(&self) -> Option<f64> {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        let upper = *rates.get(rates.len() / 2)?;
        let lower = rates[(rates.len() - 1) / 2];
        Some((lower + upper) / 2.0)
    }

    pub(super) fn slowest(&self) -> f64 {
        self.rates.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn fastest(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

impl Rounds<'_> {
    /// Gives every candidate its turn in every round, and adds what they reach to `all`, also if
    /// it ends early; each round begins with another candidate.
    ///
    /// Returns why the files cannot be where the loads are to begin, if so.
    pub(super) fn run(
        &self,
        start: Start,
        candidates: Vec<Candidate>,
        all: &mut Vec<Measured>,
    ) -> Result<Option<String>> {
        let first = all.len();
        all.extend(candidates.into_iter().map(Measured::new));
        let racers = &mut all[first..];
        let steps = Steps::of(racers.len() * self.count);
        for round in 0..self.count {
            for turn in 0..racers.len() {
                let count = racers.len();
                let racer = &mut racers[(round + turn) % count];
                steps.next(&racer.candidate.name());
                if racer.not_run.is_some() {
                    continue;
                }
                interrupt::check(&self.cancel)?;
                if let Err(why) = self.bring_to(start) {
                    interrupt::check(&self.cancel)?;
                    return Ok(Some(why.to_string()));
                }
                match self.turn(start, &racer.candidate) {
                    Ok(turn) => racer.add(turn),
                    Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                    // What the user would get without a choice must work.
                    Err(error) if racer.candidate.axis == Axis::Defaults => return Err(error),
                    Err(error) => racer.not_run = Some(error.to_string()),
                }
            }
        }
        Ok(None)
    }

    fn bring_to(&self, start: Start) -> io::Result<()> {
        self.files.iter().try_for_each(|path| {
            let file = File::open(path)?;
            match start {
                Start::Warm => warm(&file, || !self.cancel.is_cancelled()),
                Start::Cold => cool(&file),
            }
        })
    }

    fn turn(&self, start: Start, candidate: &Candidate) -> Result<Turn> {
        let clock = Instant::now();
        match &candidate.work {
            Work::Load(settings) => {
                let loader = self.checkpoint.loader().settings(settings);
                let loader = loader.place(self.device.placement());
                let loaded = loader.cancel_token(self.cancel.clone()).load()?;
                Turn::of_load(&loaded, clock, candidate)
            }
            Work::Raw(reads) => {
                let memory = reads.read(self.files, || !self.cancel.is_cancelled());
                let seconds = clock.elapsed().as_secs_f64();
                drop(memory.map_err(|error| self.failed(error))?);
                let reader = match reads.direct {
                    true => ReaderKind::Direct,
                    false => ReaderKind::Buffered,
                };
                Ok(Turn {
                    bytes: self.bytes,
                    seconds,
                    threads: Some(reads.threads),
                    readers: vec![reader.name()],
                })
            }
            Work::Pipeline => {
                let files = Joined::open(self.files, start == Start::Cold);
                let files = files.map_err(|error| self.failed(error))?;
                self.bring(self.bytes, |at, slot| {
                    interrupt::check(&self.cancel)?;
                    let read = files.read_exact_at(at as u64, slot);
                    read.map_err(|error| self.failed(error))
                })
            }
            Work::Copies => self.bring(self.bytes.min(COPIED_BYTES), |_, _| {
                interrupt::check(&self.cancel)
            }),
        }
    }

    /// Brings bytes to the device with nothing planned.
    fn bring(
        &self,
        bytes: u64,
        fill: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<Turn> {
        let too_large = || Error::new(ErrorKind::Unsupported, "larger than the address space");
        let len = usize::try_from(bytes).map_err(|_| too_large())?;
        let clock = Instant::now();
        let group = bring(&*self.device.device(), len, PIPELINE_BYTES, fill)?;
        let seconds = clock.elapsed().as_secs_f64();
        drop(group);
        Ok(Turn {
            bytes,
            seconds,
            ..Turn::default()
        })
    }

    /// A refusal of the system, or the end that the user asked for.
    fn failed(&self, error: io::Error) -> Error {
        match interrupt::check(&self.cancel) {
            Err(cancelled) => cancelled,
            Ok(()) => Error::new(ErrorKind::Storage, error),
        }
    }
}

impl Turn {
    /// What a load brought; an error if the reader that it was to try did not run.
    fn of_load(loaded: &Loaded, clock: Instant, candidate: &Candidate) -> Result<Self> {
        let seconds = clock.elapsed().as_secs_f64();
        let report = loaded.report();
        let readers = report.files.iter().filter_map(|file| file.reader);
        let mut readers: Vec<&'static str> = readers.map(ReaderKind::name).collect();
        readers.sort_unstable();
        readers.dedup();
        if let Some(asked) = candidate.set.get("reader")
            && readers != [asked.as_str()]
        {
            let refused = report.files.iter().flat_map(|file| &file.refused);
            let why = refused
                .into_iter()
                .find(|refused| refused.reader.name() == asked)
                .map_or("another reader ran", |refused| refused.why.as_str());
            return Err(Error::new(ErrorKind::Unsupported, why.to_owned()));
        }
        Ok(Self {
            bytes: report.bytes_wanted,
            seconds,
            threads: Some(report.threads),
            readers,
        })
    }
}

impl Measured {
    fn add(&mut self, turn: Turn) {
        let rate = turn.bytes as f64 / 1e9 / turn.seconds.max(f64::MIN_POSITIVE);
        self.rates.push(rate);
        (self.threads, self.readers) = (turn.threads, turn.readers);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let candidate = Candidate {
            axis: Axis::Limit,
            work: Work::Copies,
            set: BTreeMap::new(),
        };
        let mut measured = Measured::new(candidate);
        assert_eq!(measured.median(), None);
        for (rate, median) in [(4.0, 4.0), (1.0, 2.5), (2.0, 2.0), (8.0, 3.0)] {
            measured.rates.push(rate);
            assert_eq!(measured.median(), Some(median));
        }
        assert_eq!((measured.slowest(), measured.fastest()), (1.0, 8.0));
    }
}
