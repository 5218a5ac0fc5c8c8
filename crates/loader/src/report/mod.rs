//! Reports of loads.

mod display;
mod sum;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tensorlift_storage::ReaderKind;
use tensorlift_storage::os::{ProcessMemory, Residency};
use tensorlift_tensor_meta::Dtype;

use crate::hash::Digest;

pub use display::Bytes;
pub(crate) use display::plural;

/// How a load ran: every number is measured.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LoadReport {
    /// Tensors handed out.
    pub tensors: usize,
    /// Bytes of these tensors; bytes that several tensors share count once.
    pub bytes_wanted: u64,
    /// Bytes read from the shards, with the gaps between tensors, without headers unless they are
    /// hashed.
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
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub wall: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// The most staging memory in use at once, in bytes.
    pub peak_staging_bytes: u64,
    /// Bytes that were copied from the host to devices over the bus, as they are after selection
    /// and conversion; what a device read from a file itself is not among them.
    pub bytes_over_bus: u64,
    /// Tensors that keep their dtype though the load asks for another: those that are no floats,
    /// and quantized ones with their scales.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptTensor>,
    /// What was verified, if that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// What was hashed, if that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashed: Option<Hashed>,
    /// This process's memory before the load, in bytes.
    pub memory_before: ProcessMemory,
    /// This process's memory after the load, in bytes. `peak` is of the process's whole life.
    pub memory_after: ProcessMemory,
    /// The devices that hold the tensors.
    pub devices: Vec<String>,
    /// What the path was resolved to.
    pub choice: Resolution,
    /// Settings that a program took from its environment or command line for this load.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// The shards, each with the reader that ran.
    pub files: Vec<FileReport>,
}

/// Where the time of a load went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Phases {
    /// Finding the files.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub resolve: Duration,
    /// Opening the files.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub open: Duration,
    /// Reading headers, directories and pickles.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub parse: Duration,
    /// Planning.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub plan: Duration,
    /// Allocating the groups.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub allocate: Duration,
    /// Reading the bytes into place.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub read: Duration,
    /// Waiting for devices, and making tensors.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub finish: Duration,
}

/// A number of threads that was tried, and the rate it reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PaceStep {
    /// Threads that read at once.
    pub threads: usize,
    /// What they read together, in bytes per second.
    pub bytes_per_second: f64,
}

/// Counts of the reading phase.
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
    /// Bytes that were copied from the host to devices.
    pub bytes_over_bus: u64,
    /// The numbers of threads that were tried.
    pub steps: Vec<PaceStep>,
    /// What was verified, if that was requested.
    pub verified: Option<Verified>,
    /// What was hashed, if that was requested.
    pub hashed: Option<Hashed>,
}

/// Hashes that were computed while reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Hashed {
    /// The hash of each range of [`LoadOptions::hashes`](crate::LoadOptions::hashes), in their
    /// order.
    #[serde(skip)]
    pub digests: Vec<Digest>,
    /// Ranges whose hash is the expected one.
    pub matched: usize,
    /// Bytes of all ranges; those of several count for each.
    pub bytes: u64,
}

/// A setting, and what made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The environment variable or the command line's option that made it.
    pub source: String,
}

/// A tensor whose dtype a conversion left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct KeptTensor {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: Dtype,
}

/// What was compared with the checksums that the files declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Resolution {
    /// What was loaded, and by which rule.
    pub chosen: String,
    /// The other candidates, and why they were not loaded.
    pub passed_over: Vec<Alternative>,
    /// What was loaded although the index of the checkpoint does not list it.
    pub unlisted: Vec<String>,
}

/// A candidate that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Alternative {
    /// Its name.
    pub what: String,
    /// Why it was not loaded.
    pub why: String,
}

/// A reader that was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RefusedReader {
    /// The reader.
    pub reader: ReaderKind,
    /// Why it was not used.
    pub why: String,
}

impl Setting {
    /// A setting that `source` made.
    pub fn new(name: &'static str, value: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name,
            value: value.into(),
            source: source.into(),
        }
    }
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

    /// Adds what was loaded although the index does not list it.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Bytes that went through other memory first: small neighbours that were read
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
    /// From opening it to its last byte, in seconds; other shards were read meanwhile.
    #[serde(rename = "read_seconds", serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub read: Duration,
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
            read: Duration::ZERO,
        }
    }

    /// Bytes that were read for each second between opening it and its last byte; `None` if
    /// nothing was read.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<f64> {
        let bytes = self.bytes_in_place + self.bytes_bounced;
        (bytes > 0 && !self.read.is_zero()).then(|| bytes as f64 / self.read.as_secs_f64())
    }
}

impl LoadReport {
    /// Bytes wanted for each second of the wall time, in GB/s (10⁹).
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes_wanted as f64 / 1e9 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
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

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
