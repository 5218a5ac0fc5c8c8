use serde::{Deserialize, Serialize};

use crate::Checksum;

/// What a measured process found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// From the call to the last byte resident.
    pub seconds: f64,
    /// Where the engine says its time went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// What the engine says of how it read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Memory of the process right before the call, in bytes; 0 where the system does not tell.
    pub resident_before: u64,
    /// The most memory that the process had from the call on, in bytes.
    pub resident_peak: u64,
    /// The most memory of the device that the load took, in bytes, where that was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_growth: Option<u64>,
    /// Seconds of a second load in the same process, where the engine was asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<f64>,
    /// Bytes of host memory that the engine pinned, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// What it loaded.
    pub checksum: Checksum,
}

impl Outcome {
    /// The most memory that the load took, in bytes.
    #[must_use]
    pub fn growth(&self) -> u64 {
        self.resident_peak.saturating_sub(self.resident_before)
    }
}

/// A part of an engine's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The engine's name for it.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}
