//! What others see of loads: spans and events of `tracing`, and with the feature `metrics`
//! counters and histograms.

use std::collections::BTreeSet;

use tensorlift_loader::{FileReport, LoadReport};
use tensorlift_storage::ReaderKind;
use tensorlift_tensor_meta::Error;

use crate::Checkpoint;

/// A shard is slow below this part of the median rate of all shards of its load.
const SLOW: f64 = 0.25;
/// Shards that take less time are not called slow, in seconds.
const SLOW_SECONDS: f64 = 1.0;

/// Runs a load in a span of its own, and tells how it ended.
pub(crate) fn load<T, E>(
    checkpoint: &Checkpoint,
    work: impl FnOnce() -> Result<T, E>,
    report: impl FnOnce(&T) -> &LoadReport,
    error: impl FnOnce(&E) -> &Error,
) -> Result<T, E> {
    let path = checkpoint.choice().chosen.display();
    let _span = tracing::info_span!("load", %path).entered();
    let result = work();
    match &result {
        Ok(loaded) => loaded_event(report(loaded)),
        Err(failed) => failed_event(error(failed)),
    }
    result
}

fn loaded_event(report: &LoadReport) {
    let readers = report.files.iter().filter_map(|file| file.reader);
    let readers: BTreeSet<&str> = readers.map(ReaderKind::name).collect();
    tracing::info!(
        seconds = report.wall.as_secs_f64(),
        bytes = report.bytes_wanted,
        bytes_read = report.bytes_read,
        tensors = report.tensors,
        files = report.files.len(),
        devices = ?report.devices,
        ?readers,
        threads = report.threads,
        threads_refused = report.threads_refused,
        peak_memory_bytes = report.memory_after.peak,
        "loaded",
    );
    for (file, rate) in slow_shards(&report.files) {
        tracing::warn!(
            path = %file.path.display(),
            reader = file.reader.map(tracing::field::display),
            seconds = file.read.as_secs_f64(),
            bytes_per_second = rate,
            "slow shard",
        );
    }
    #[cfg(feature = "metrics")]
    crate::metrics::loaded(report);
}

fn failed_event(error: &Error) {
    tracing::info!(kind = error.kind().as_str(), %error, "load failed");
    #[cfg(feature = "metrics")]
    crate::metrics::failed(error);
}

/// The shards that were read far slower than most of the same load, and their rates in bytes per
/// second.
fn slow_shards(files: &[FileReport]) -> Vec<(&FileReport, f64)> {
    let rated = |file| FileReport::bytes_per_second(file).map(|rate| (file, rate));
    let mut rated: Vec<(&FileReport, f64)> = files.iter().filter_map(rated).collect();
    rated.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let Some(&(_, median)) = rated.get(rated.len() / 2) else {
        return rated;
    };
    rated.retain(|(file, rate)| *rate < median * SLOW && file.read.as_secs_f64() >= SLOW_SECONDS);
    rated
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(name: &str, bytes: u64, seconds: u64) -> FileReport {
        let mut file = FileReport::new(name, "safetensors", bytes, Some(ReaderKind::Direct));
        file.bytes_in_place = bytes;
        file.read = Duration::from_secs(seconds);
        file
    }

    #[test]
    fn slow_is_a_quarter_of_the_median_and_a_second() {
        let files = [
            file("usual", 1000, 1),
            file("usual as well", 1000, 1),
            file("slow", 1000, 10),
            file("not needed", 0, 0),
        ];
        let slow = slow_shards(&files);
        assert_eq!(slow.len(), 1);
        assert_eq!(slow[0].0.path.to_str(), Some("slow"));
        assert_eq!(slow[0].1, 100.0);
        assert!(slow_shards(&files[..2]).is_empty());
        assert!(slow_shards(&[]).is_empty());
        assert!(slow_shards(&files[2..]).is_empty());
    }
}
