//! Counters and histograms of loads, through the crate [`metrics`](::metrics).
//!
//! A process that installs a recorder, such as an exporter for Prometheus, gets these for every
//! load; without one they cost a call that does nothing.
//! [`describe`] gives the recorder their units and descriptions.
//!
//! | name | kind | labels |
//! | --- | --- | --- |
//! | [`LOADS`] | counter | `result`: `ok` or `error` |
//! | [`LOAD_SECONDS`] | histogram | |
//! | [`PHASE_SECONDS`] | histogram | `phase` |
//! | [`BYTES_READ`] | counter | `format`, `reader` |
//! | [`FILES`] | counter | `format`, `reader` |
//! | [`READERS_REFUSED`] | counter | `reader`, `reason` (numbers in it are replaced by `N`) |
//! | [`ERRORS`] | counter | `kind`, as [`ErrorKind::as_str`](crate::ErrorKind::as_str) |
//! | [`PEAK_MEMORY_BYTES`] | gauge | |
//! | [`MEMORY_BYTES`] | gauge | |

use ::metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tensorlift_loader::{FileReport, LoadReport};
use tensorlift_storage::ReaderKind;
use tensorlift_tensor_meta::Error;

/// Loads that ended.
pub const LOADS: &str = "tensorlift_loads_total";
/// Seconds from opening the checkpoint to the last byte in its place.
pub const LOAD_SECONDS: &str = "tensorlift_load_seconds";
/// Seconds of one phase of a load.
pub const PHASE_SECONDS: &str = "tensorlift_phase_seconds";
/// Bytes read from files.
pub const BYTES_READ: &str = "tensorlift_read_bytes_total";
/// Files read.
pub const FILES: &str = "tensorlift_files_total";
/// Files for which a reader was not used.
pub const READERS_REFUSED: &str = "tensorlift_readers_refused_total";
/// Loads that failed.
pub const ERRORS: &str = "tensorlift_load_errors_total";
/// The process's largest resident memory so far, after the latest load.
pub const PEAK_MEMORY_BYTES: &str = "tensorlift_peak_memory_bytes";
/// The process's resident memory after the latest load.
pub const MEMORY_BYTES: &str = "tensorlift_memory_bytes";

/// Gives the recorder the units and descriptions of all metrics; call it once, after the recorder
/// is installed.
pub fn describe() {
    describe_counter!(LOADS, Unit::Count, "Loads that ended");
    describe_histogram!(
        LOAD_SECONDS,
        Unit::Seconds,
        "From opening the checkpoint to the last byte in its place"
    );
    describe_histogram!(PHASE_SECONDS, Unit::Seconds, "One phase of a load");
    describe_counter!(BYTES_READ, Unit::Bytes, "Bytes read from files");
    describe_counter!(FILES, Unit::Count, "Files read");
    describe_counter!(
        READERS_REFUSED,
        Unit::Count,
        "Files for which a reader was not used"
    );
    describe_counter!(ERRORS, Unit::Count, "Loads that failed");
    describe_gauge!(
        PEAK_MEMORY_BYTES,
        Unit::Bytes,
        "The largest resident memory so far"
    );
    describe_gauge!(
        MEMORY_BYTES,
        Unit::Bytes,
        "The resident memory after the latest load"
    );
}

pub(crate) fn loaded(report: &LoadReport) {
    counter!(LOADS, "result" => "ok").increment(1);
    histogram!(LOAD_SECONDS).record(report.wall);
    for (phase, time) in report.phases.all() {
        histogram!(PHASE_SECONDS, "phase" => phase).record(time);
    }
    report.files.iter().for_each(file_read);
    gauge!(PEAK_MEMORY_BYTES).set(report.memory_after.peak as f64);
    gauge!(MEMORY_BYTES).set(report.memory_after.resident as f64);
}

fn file_read(file: &FileReport) {
    for refused in &file.refused {
        let (reader, reason) = (refused.reader.name(), without_numbers(&refused.why));
        counter!(READERS_REFUSED, "reader" => reader, "reason" => reason).increment(1);
    }
    let bytes = file.bytes_in_place + file.bytes_bounced;
    if let Some(reader) = file.reader.map(ReaderKind::name)
        && bytes > 0
    {
        counter!(FILES, "format" => file.format, "reader" => reader).increment(1);
        counter!(BYTES_READ, "format" => file.format, "reader" => reader).increment(bytes);
    }
}

pub(crate) fn failed(error: &Error) {
    counter!(LOADS, "result" => "error").increment(1);
    counter!(ERRORS, "kind" => error.kind().as_str()).increment(1);
}

/// The text with each number replaced by `N`, so that equal reasons are one label.
fn without_numbers(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_ascii_digit() {
            false => label.push(character),
            true if label.ends_with('N') => {}
            true => label.push('N'),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_with_other_numbers_are_one_label() {
        assert_eq!(without_numbers("67 % of 12345 bytes"), "N % of N bytes");
        assert_eq!(without_numbers("98 % of 7 bytes"), "N % of N bytes");
    }
}
