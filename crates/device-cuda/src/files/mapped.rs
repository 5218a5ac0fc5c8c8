//! Files in the page cache, copied from where they are: pieces of their mapping are pinned, copied
//! from, and let go.
//!
//! That spares the copy into the ring and costs pinning, page by page; which is faster depends on
//! kernel and driver, so both take turns on a load's first chunks.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tensorlift_device::{Pull, Pulled};
use tensorlift_storage::{MapStorage, Storage, os};

use super::per_file::{PerFile, lock};
use crate::Cached;
use crate::driver::{Context, DeviceMemory, Stream};

/// Chunks that each way brings before one is chosen.
const TRIALS: u32 = 4;
/// Where either way takes fewer chunks than this many, the choice would not pay.
const LEAST_CHUNKS: u64 = 16;
/// From this share in the page cache on, a file counts as being there.
const WARM: f64 = 0.9;

/// The mappings of a device's files, and whether they are used.
#[derive(Debug)]
pub(crate) struct Mapped {
    mode: Cached,
    buffer_bytes: usize,
    files: PerFile<OnceLock<Result<MapStorage, String>>>,
    choice: Mutex<Choice>,
}

/// Which way is faster, as far as it is known.
#[derive(Debug, Default)]
struct Choice {
    turn: u32,
    mapped: Trial,
    ring: Trial,
    /// That the mapping is faster, or why it is not used.
    decided: Option<Result<(), String>>,
}

/// What a way took so far.
#[derive(Debug, Default)]
struct Trial {
    chunks: u32,
    bytes: u64,
    time: Duration,
}

impl Mapped {
    pub(crate) fn new(mode: Cached, buffer_bytes: usize) -> Self {
        Self {
            mode,
            buffer_bytes,
            files: PerFile::default(),
            choice: Mutex::default(),
        }
    }

    /// Whether files are tried at all.
    pub(crate) fn pulls(&self, context: &Context) -> bool {
        self.mode != Cached::Ring && context.registers_read_only()
    }

    /// Copies a chunk into a group, and waits.
    pub(crate) fn pull(
        &self,
        memory: &Arc<DeviceMemory>,
        stream: &Arc<Stream>,
        pull: &Pull<'_>,
    ) -> Pulled {
        match self.copy(memory, stream, pull) {
            Ok(()) => Pulled::Done,
            Err(why) => Pulled::Refused(why.into()),
        }
    }

    fn copy(
        &self,
        memory: &Arc<DeviceMemory>,
        stream: &Arc<Stream>,
        pull: &Pull<'_>,
    ) -> Result<(), String> {
        if let Some(Err(why)) = &lock(&self.choice).decided {
            return Err(why.clone());
        }
        let file = self.files.of(memory, pull.file);
        let file = file.map_err(|error| error.to_string())?;
        let map = file.get_or_init(|| self.open(pull)).as_ref()?;
        let bytes = map.as_slice().unwrap_or_default();
        let start = usize::try_from(pull.offset).unwrap_or(usize::MAX);
        let piece = start..start.saturating_add(pull.len);
        if piece.end > bytes.len() {
            return Err(format!("the mapping ends at byte {}", bytes.len()));
        }
        lock(&self.choice).turn(self.mode)?;
        let begun = Instant::now();
        let copied = memory.take_mapped(bytes, piece, pull.runs, stream);
        let mut choice = lock(&self.choice);
        if let Err(error) = copied {
            // Whatever it is, the next piece would meet it too.
            let why = format!("its mapping could not be copied from: {error}");
            choice.decided = Some(Err(why.clone()));
            return Err(why);
        }
        choice.mapped.add(pull.len, begun.elapsed());
        choice.decide();
        Ok(())
    }

    /// Maps a file, unless it is read from the disk or too small.
    fn open(&self, pull: &Pull<'_>) -> Result<MapStorage, String> {
        let failed = |error: std::io::Error| error.to_string();
        let file = pull.file.try_clone().map_err(failed)?;
        let map = MapStorage::from_file(file).map_err(failed)?;
        if self.mode == Cached::Mapped {
            return Ok(map);
        }
        if map.len() < LEAST_CHUNKS * self.buffer_bytes as u64 {
            return Err("it is too small to find out whether its mapping is faster".into());
        }
        let share = os::residency(pull.file, map.len()).map_or(0.0, |cached| cached.share());
        match share < WARM {
            true => Err(format!(
                "{:.0} % of it are in the page cache",
                share * 100.0
            )),
            false => Ok(map),
        }
    }

    /// Notes what the ring took for a chunk.
    pub(crate) fn ring_took(&self, bytes: usize, time: Duration) {
        if self.mode == Cached::Auto {
            let mut choice = lock(&self.choice);
            // Before the first turn nobody asks.
            if choice.turn > 0 && choice.decided.is_none() {
                choice.ring.add(bytes, time);
                choice.decide();
            }
        }
    }

    /// Unmaps the files that only this group read.
    pub(crate) fn release(&self, memory: &Arc<DeviceMemory>) {
        self.files.release(memory);
    }
}

impl Choice {
    /// Whether the next chunk comes from the mapping, or why not.
    fn turn(&mut self, mode: Cached) -> Result<(), String> {
        if let Some(decided) = &self.decided {
            return decided.clone();
        }
        self.turn += 1;
        match mode == Cached::Mapped || self.turn % 2 == 1 {
            true => Ok(()),
            false => Err("every other chunk of the first ones, to find the faster way".into()),
        }
    }

    fn decide(&mut self) {
        if self.decided.is_some() || self.mapped.chunks.min(self.ring.chunks) < TRIALS {
            return;
        }
        let (mapped, ring) = (self.mapped.rate(), self.ring.rate());
        self.decided = Some(match mapped > ring {
            true => Ok(()),
            false => Err(format!(
                "each thread brings {ring:.1} GB/s through the ring, {mapped:.1} GB/s by pinning \
                 the file's mapping"
            )),
        });
    }
}

impl Trial {
    fn add(&mut self, bytes: usize, time: Duration) {
        self.chunks += 1;
        self.bytes += bytes as u64;
        self.time += time;
    }

    /// In GB/s.
    fn rate(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.time.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets both ways take turns until one is chosen; what the next chunk hears.
    fn outcome(mapped: u64, ring: u64) -> Result<(), String> {
        let mut choice = Choice::default();
        for turn in 0..2 * TRIALS {
            let (trial, millis) = match choice.turn(Cached::Auto) {
                Ok(()) => (&mut choice.mapped, mapped),
                Err(why) => {
                    assert!(turn % 2 == 1 && why.contains("every other chunk"), "{why}");
                    (&mut choice.ring, ring)
                }
            };
            trial.add(4 << 20, Duration::from_millis(millis));
            choice.decide();
        }
        assert!(choice.decided.is_some());
        choice.turn(Cached::Auto)
    }

    #[test]
    fn the_faster_way_is_kept() {
        assert_eq!(outcome(1, 2), Ok(()));
        let why = outcome(2, 1).unwrap_err();
        assert!(why.contains("4.2 GB/s through the ring, 2.1 GB/s"), "{why}");
    }
}
