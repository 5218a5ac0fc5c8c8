//! How many threads read, by what they meet.

use std::sync::Arc;
use std::time::Duration;

use tensorlift_device::HostDevice;
use tensorlift_loader::{LoadOptions, LoadReport, Shard};
use tensorlift_storage::wrap::Slow;
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};

use super::{Sample, pattern};

/// Small, so that there are enough reads to learn from.
const CHUNK: usize = 4096;

/// Shards of one tensor each, with the given numbers of chunks.
fn sample(chunks: &[usize]) -> Sample {
    let mut builder = Catalog::builder();
    for (index, chunks) in chunks.iter().enumerate() {
        let len = chunks * CHUNK;
        let extent = Extent::new(ShardId(index as u32), 0, len as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([len]).unwrap();
        let name = format!("t{index}");
        builder
            .entry(name, Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    let bytes = |chunks: &usize| pattern(chunks * CHUNK, 5);
    Sample {
        catalog: builder.finish(),
        shards: chunks.iter().map(bytes).collect(),
    }
}

/// Loads it from shards that `wrap` makes, and returns the numbers of threads that were tried.
fn load(sample: &Sample, shards: &[Shard], options: LoadOptions) -> (Vec<usize>, LoadReport) {
    let options = options.chunk_bytes(CHUNK);
    let loaded = sample.load(shards, HostDevice::new(), &options).unwrap();
    let report = loaded.report().clone();
    let tried = report.steps.iter().map(|step| step.threads).collect();
    (tried, report)
}

/// Latency is slept, so twice as many reads in flight are nearly twice as fast, however busy the
/// machine is.
fn distant(storage: MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(Slow::new(storage, Duration::from_millis(12), u64::MAX))
}

#[test]
fn storage_with_latency_comes_to_have_more_reads_in_flight() {
    let sample = sample(&[1100]);
    let shards = sample.shards_through(distant);
    let (tried, report) = load(&sample, &shards, LoadOptions::default());
    assert!(tried.len() >= 2 && tried[1] == 2 * tried[0], "{tried:?}");
    assert!(report.threads >= 2 * tried[0], "{tried:?}");
    // From 1 to 32, and one more that is no gain.
    assert!(tried.len() <= 7, "{tried:?}");
}

#[test]
fn storage_whose_rate_is_shared_does_not_get_ever_more_threads() {
    let sample = sample(&[300]);
    let rate = 250 * CHUNK as u64;
    let narrow = |storage| Arc::new(Slow::new(storage, Duration::ZERO, rate).shared()) as _;
    let shards = sample.shards_through(narrow);
    let (tried, report) = load(&sample, &shards, LoadOptions::default());
    assert!((2..=4).contains(&tried.len()), "{tried:?}");
    assert!(report.threads <= 2 * tried[0], "{tried:?}");
}

#[test]
fn a_slow_shard_behind_a_fast_one_gets_its_threads() {
    let sample = sample(&[1, 1000]);
    let mut shards = sample.shards();
    let slow = MemoryStorage::new(sample.shards[1].clone());
    shards[1] = Shard::new("slow", distant(slow));
    let (tried, report) = load(&sample, &shards, LoadOptions::default());
    assert!(tried.len() >= 2 && tried[1] == 2 * tried[0], "{tried:?}");
    assert!(report.threads > tried[0], "{tried:?}");

    let (tried, report) = load(&sample, &shards, LoadOptions::default().read_threads(5));
    assert_eq!((tried, report.threads), (Vec::new(), 5));
}
