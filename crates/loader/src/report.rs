use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tensorlift_storage::ReaderKind;
use tensorlift_storage::os::{ProcessMemory, Residency};

/// How a load ran: every number is measured.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// Tensors handed out.
    pub tensors: usize,
    /// Bytes of these tensors; bytes that several tensors share count once.
    pub bytes_wanted: u64,
    /// Bytes read from the shards, with the gaps between tensors, without headers.
    pub bytes_read: u64,
    /// Segments planned.
    pub segments: usize,
    /// Chunks read.
    pub reads: usize,
    /// Allocations and mappings that hold the tensors.
    pub groups: usize,
    /// Threads that read at the end.
    pub threads: usize,
    /// Threads that the system refused to start; the load went on without them.
    pub threads_refused: usize,
    /// The numbers of threads that were tried on the load's first bytes, where it adapts.
    pub steps: Vec<PaceStep>,
    /// The wall time, in seconds: the sum of the phases.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// The most staging memory in use at once, in bytes.
    pub peak_staging_bytes: u64,
    /// What was verified, if that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// This process's memory before the load, in bytes.
    pub memory_before: ProcessMemory,
    /// This process's memory after the load, in bytes. `peak` is of the process's whole life.
    pub memory_after: ProcessMemory,
    /// The devices that hold the tensors.
    pub devices: Vec<String>,
    /// What the path was resolved to.
    pub choice: Resolution,
    /// The shards, each with the reader that ran.
    pub files: Vec<FileReport>,
}

/// Where the time of a load went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Phases {
    /// Finding the files.
    #[serde(serialize_with = "seconds")]
    pub resolve: Duration,
    /// Opening the files.
    #[serde(serialize_with = "seconds")]
    pub open: Duration,
    /// Reading headers, directories and pickles.
    #[serde(serialize_with = "seconds")]
    pub parse: Duration,
    /// Planning.
    #[serde(serialize_with = "seconds")]
    pub plan: Duration,
    /// Allocating the groups.
    #[serde(serialize_with = "seconds")]
    pub allocate: Duration,
    /// Reading the bytes into place.
    #[serde(serialize_with = "seconds")]
    pub read: Duration,
    /// Waiting for devices, and making tensors.
    #[serde(serialize_with = "seconds")]
    pub finish: Duration,
}

/// A number of threads that was tried, and the rate it reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PaceStep {
    /// Threads that read at once.
    pub threads: usize,
    /// What they read together, in bytes per second.
    pub bytes_per_second: f64,
}

/// What was counted while reading.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Bytes read from shards.
    pub bytes_read: u64,
    /// Chunks read.
    pub reads: usize,
    /// Threads that read at the end.
    pub threads: usize,
    /// Threads that the system refused to start.
    pub threads_refused: usize,
    /// The most staging memory in use at once, in bytes.
    pub peak_staging_bytes: u64,
    /// The numbers of threads that were tried.
    pub steps: Vec<PaceStep>,
    /// What was verified, if that was requested.
    pub verified: Option<Verified>,
}

/// What was compared with the checksums that the files declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Records whose checksum is right.
    pub records: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were read in part, so that their checksum could not be compared.
    pub records_in_part: usize,
    /// Whether bytes were read for which no checksum is declared, as in safetensors files.
    pub without_sums: bool,
}

/// What a path was resolved to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Resolution {
    /// What was loaded, and by which rule.
    pub chosen: String,
    /// The other candidates, and why they were not loaded.
    pub passed_over: Vec<Alternative>,
    /// What was loaded though the index of the checkpoint does not list it.
    pub unlisted: Vec<String>,
}

/// A candidate that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alternative {
    /// Its name.
    pub what: String,
    /// Why it was not loaded.
    pub why: String,
}

/// A reader that was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedReader {
    /// The reader.
    pub reader: ReaderKind,
    /// Why it was not used.
    pub why: String,
}

impl Resolution {
    /// A path that was resolved to `chosen`, with no alternative so far.
    pub fn new(chosen: impl Into<String>) -> Self {
        Self {
            chosen: chosen.into(),
            passed_over: Vec::new(),
            unlisted: Vec::new(),
        }
    }

    /// Adds what was loaded though the index does not list it.
    #[must_use]
    pub fn take_along(mut self, what: impl Into<String>) -> Self {
        self.unlisted.push(what.into());
        self
    }

    /// Adds a candidate that was passed over.
    #[must_use]
    pub fn pass_over(mut self, what: impl Into<String>, why: impl Into<String>) -> Self {
        self.passed_over.push(Alternative {
            what: what.into(),
            why: why.into(),
        });
        self
    }
}

/// How one shard was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FileReport {
    /// The shard.
    pub path: PathBuf,
    /// Its format.
    pub format: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
    /// The reader that ran; `None` if no byte of the shard was needed.
    pub reader: Option<ReaderKind>,
    /// Reads in flight at the start, unless the options fix the number.
    pub first_threads: usize,
    /// Bytes that were read straight into a group or a staging buffer.
    pub bytes_in_place: u64,
    /// Bytes that went through memory beside their place: small neighbours that were read
    /// together, selections of larger tensors, decoded records, and direct reads into memory that
    /// is not aligned as the file is.
    pub bytes_bounced: u64,
    /// The readers that were not used, and why.
    pub refused: Vec<RefusedReader>,
    /// Whether the device read parts of it itself, past the host (GPUDirect Storage).
    pub pulled_by_device: bool,
    /// How much of it was in the page cache before the load; `None` where the system does not
    /// tell.
    pub cached_before: Option<Residency>,
}

impl FileReport {
    /// The report of a shard that is read by `reader`, or not at all.
    pub fn new(
        path: impl Into<PathBuf>,
        format: &'static str,
        bytes: u64,
        reader: Option<ReaderKind>,
    ) -> Self {
        Self {
            path: path.into(),
            format,
            bytes,
            reader,
            first_threads: 1,
            bytes_in_place: 0,
            bytes_bounced: 0,
            refused: Vec::new(),
            pulled_by_device: false,
            cached_before: None,
        }
    }
}

impl LoadReport {
    /// Bytes wanted for each second of the wall time, in GB/s (10⁹).
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes_wanted as f64 / 1e9 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl LoadReport {
    /// Adds what another part of the same load took.
    pub(crate) fn add(&mut self, part: LoadReport) {
        self.tensors += part.tensors;
        self.bytes_wanted += part.bytes_wanted;
        self.bytes_read += part.bytes_read;
        self.segments += part.segments;
        self.reads += part.reads;
        self.groups += part.groups;
        self.threads = self.threads.max(part.threads);
        self.threads_refused = self.threads_refused.max(part.threads_refused);
        self.peak_staging_bytes = self.peak_staging_bytes.max(part.peak_staging_bytes);
        self.steps.extend(part.steps);
        self.phases.allocate += part.phases.allocate;
        self.phases.read += part.phases.read;
        self.phases.finish += part.phases.finish;
        if let Some(verified) = part.verified {
            self.verified.get_or_insert_default().add(verified);
        }
        if self.files.is_empty() {
            self.files = part.files;
            return;
        }
        for (file, part) in self.files.iter_mut().zip(part.files) {
            file.add(part);
        }
    }
}

impl Verified {
    fn add(&mut self, part: Verified) {
        self.records += part.records;
        self.bytes += part.bytes;
        self.records_in_part += part.records_in_part;
        self.without_sums |= part.without_sums;
    }
}

impl FileReport {
    /// Adds how another part of the file was read; what was so before the load is that of the
    /// first part.
    fn add(&mut self, part: FileReport) {
        let (in_place, bounced) = (self.bytes_in_place, self.bytes_bounced);
        let pulled = self.pulled_by_device;
        if self.reader.is_none() {
            *self = part.clone();
        }
        self.bytes_in_place = in_place + part.bytes_in_place;
        self.bytes_bounced = bounced + part.bytes_bounced;
        self.pulled_by_device = pulled | part.pulled_by_device;
    }
}

impl Phases {
    /// All phases, by name, in the order in which they run.
    #[must_use]
    pub const fn all(&self) -> [(&'static str, Duration); 7] {
        [
            ("resolve", self.resolve),
            ("open", self.open),
            ("parse", self.parse),
            ("plan", self.plan),
            ("allocate", self.allocate),
            ("read", self.read),
            ("finish", self.finish),
        ]
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.all().into_iter().map(|(_, time)| time).sum()
    }
}

/// One line: what was loaded, how fast, by which reader, and the phases that took time.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readers: BTreeSet<&str> = self
            .files
            .iter()
            .map(|file| file.reader.map_or("none", ReaderKind::name))
            .collect();
        let readers: Vec<&str> = readers.into_iter().collect();
        write!(
            f,
            "{} {}, {} from {} {} in {:.3} s ({:.2} GB/s) to {} by {} x {}",
            self.tensors,
            plural(self.tensors, "tensor", "tensors"),
            Bytes(self.bytes_wanted),
            self.files.len(),
            plural(self.files.len(), "file", "files"),
            self.wall.as_secs_f64(),
            self.gigabytes_per_second(),
            self.devices.join(", "),
            readers.join(", "),
            self.threads,
        )?;
        for (index, (name, time)) in self.phases.all().into_iter().enumerate() {
            let separator = if index == 0 { "; " } else { ", " };
            write!(f, "{separator}{name} {:.1} ms", time.as_secs_f64() * 1e3)?;
        }
        if self.threads_refused > 0 {
            let threads = plural(self.threads_refused, "thread", "threads");
            write!(
                f,
                "; {} {threads} could not be started",
                self.threads_refused
            )?;
        }
        if self.memory_after.peak > 0 {
            write!(f, "; peak memory {}", Bytes(self.memory_after.peak))?;
        }
        Ok(())
    }
}

pub(crate) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    match count {
        1 => one,
        _ => many,
    }
}

/// Displays bytes in decimal units.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let text = match self.0 {
            0..1_000 => format!("{} B", self.0),
            1_000..1_000_000 => format!("{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", bytes / 1e6),
            _ => format!("{:.2} GB", bytes / 1e9),
        };
        f.pad(&text)
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_time_is_the_sum_of_the_phases() {
        let phases = Phases {
            parse: Duration::from_millis(3),
            read: Duration::from_millis(40),
            ..Phases::default()
        };
        let report = LoadReport {
            phases,
            wall: phases.sum(),
            bytes_wanted: 43_000_000,
            ..LoadReport::default()
        };
        assert_eq!(report.wall, Duration::from_millis(43));
        assert!((report.gigabytes_per_second() - 1.0).abs() < 1e-9);
        assert!(report.to_string().contains("43.0 MB"));
    }

    #[test]
    fn bytes_are_shown_in_decimal_units() {
        assert_eq!(Bytes(999).to_string(), "999 B");
        assert_eq!(Bytes(1_500).to_string(), "1.5 kB");
        assert_eq!(Bytes(4_300_000_000).to_string(), "4.30 GB");
    }
}
