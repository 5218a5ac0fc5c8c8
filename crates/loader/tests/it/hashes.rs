//! Hashes that are computed while bytes are read.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sha2::Digest as _;
use tensorlift_device::double::StagedDevice;
use tensorlift_device::{HostDevice, NullDevice};
use tensorlift_loader::{
    Control, Digest, HashAlgorithm, HashRange, Hashed, LoadOptions, Loaded, Mode, execute,
    hash_ranges, plan,
};
use tensorlift_storage::wrap::Failing;
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{
    Catalog, Dtype, Entry, Error, ErrorKind, Extent, Layout, Record, ShardId, View,
};

use super::{Sample, pattern, samples};

/// The hash of all these bytes at once.
fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    let hash = match algorithm {
        HashAlgorithm::Blake3 => blake3::hash(bytes).as_bytes().to_vec(),
        HashAlgorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        _ => {
            let mut hasher = sha1::Sha1::new();
            hasher.update(format!("blob {}\0", bytes.len()));
            hasher.update(bytes);
            hasher.finalize().to_vec()
        }
    };
    Digest::new(algorithm, &hash).unwrap()
}

fn whole(sample: &Sample, shard: usize) -> Extent {
    Extent::new(ShardId(shard as u32), 0, sample.shards[shard].len() as u64)
}

fn bytes_of(sample: &Sample, extent: Extent) -> &[u8] {
    &sample.shards[extent.shard.index()][extent.offset as usize..extent.end() as usize]
}

fn hashed(loaded: &Loaded) -> &Hashed {
    loaded.report().hashed.as_ref().unwrap()
}

/// One shard of tensors of `bytes` bytes each, between a header and a tail of 11 bytes.
fn sample(tensors: usize, bytes: usize) -> Sample {
    let mut builder = Catalog::builder();
    for index in 0..tensors {
        let extent = Extent::new(ShardId::FIRST, (11 + index * bytes) as u64, bytes as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([bytes]).unwrap();
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![pattern(tensors * bytes + 22, 5)],
    }
}

fn all_ranges(sample: &Sample) -> Vec<HashRange> {
    let files = (0..sample.shards.len()).map(|shard| whole(sample, shard));
    let entries = sample.catalog.entries().iter().map(Entry::extent);
    let extents = files.chain(entries);
    let of_all = |extent| HashAlgorithm::ALL.map(|algorithm| HashRange::new(extent, algorithm));
    extents.flat_map(of_all).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_and_tensors_are_hashed_whatever_is_loaded(
        sample in samples(),
        chunk in 12u32..18,
        threads in 1usize..4,
        kind in 0..4,
    ) {
        let ranges = all_ranges(&sample);
        let options = LoadOptions::default()
            .chunk_bytes(1 << chunk)
            .read_threads(threads)
            .mode(if kind == 3 { Mode::Map } else { Mode::Copy })
            .hashes(ranges.clone());
        let shards = sample.shards();
        let loaded = match kind {
            0 => sample.load(&shards, StagedDevice::new(2, 8 << 10), &options),
            1 => sample.load(&shards, NullDevice, &options),
            _ => sample.load(&shards, HostDevice::new(), &options),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            // What hashes do not change.
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Unsupported);
                return Ok(());
            }
        };
        for (range, found) in ranges.iter().zip(&hashed(&loaded).digests) {
            let expected = digest(range.algorithm, bytes_of(&sample, range.extent));
            prop_assert_eq!(*found, expected, "{:?}", range);
        }
    }
}

#[test]
fn every_byte_of_a_file_is_read_and_counted() {
    let sample = sample(9, 5_000);
    let extent = whole(&sample, 0);
    for algorithm in HashAlgorithm::ALL {
        let expected = digest(algorithm, bytes_of(&sample, extent));
        let options = LoadOptions::default()
            .chunk_bytes(4096)
            .hashes([HashRange::expect(extent, expected)]);
        let loaded = sample.load(&sample.shards(), HostDevice::new(), &options);
        let report = loaded.unwrap().report().clone();
        assert_eq!(report.bytes_read, extent.len);
        let hashed = report.hashed.unwrap();
        assert_eq!((hashed.matched, hashed.bytes), (1, extent.len));
    }
}

#[test]
fn hashes_of_selected_tensors_add_no_reads() {
    let sample = sample(9, 5_000);
    let entry = &sample.catalog.entries()[4];
    let expected = digest(HashAlgorithm::Blake3, bytes_of(&sample, entry.extent()));
    let options = LoadOptions::default().hashes([HashRange::expect(entry.extent(), expected)]);
    let host: Arc<dyn tensorlift_device::Device> = Arc::new(HostDevice::new());
    let only = |other: &tensorlift_tensor_meta::Entry| (other.name() == entry.name()).then_some(0);
    let plan = plan(&sample.catalog, only, &[host.rules()], &options).unwrap();
    let control = Control::default();
    let shards = sample.shards();
    let filled = execute(&plan, &sample.catalog, &shards, &[host], &options, &control).unwrap();
    assert_eq!(filled.outcome.counts.bytes_read, 5_000);
    assert_eq!(filled.outcome.counts.hashed.unwrap().matched, 1);
}

#[test]
fn each_flipped_byte_is_found() {
    let mut sample = sample(3, 400);
    let extent = whole(&sample, 0);
    let of_tensor = sample.catalog.entries()[1].extent();
    for algorithm in HashAlgorithm::ALL {
        let range =
            |extent| HashRange::expect(extent, digest(algorithm, bytes_of(&sample, extent)));
        let (file, tensor) = (range(extent), range(of_tensor));
        let load = |sample: &Sample, range| {
            let options = LoadOptions::default().hashes([range]);
            sample.load(&sample.shards(), HostDevice::new(), &options)
        };
        load(&sample, file).unwrap();
        for at in 0..extent.len {
            sample.shards[0][at as usize] ^= 1;
            let error = load(&sample, file).unwrap_err();
            assert_eq!((error.kind(), error.tensor()), (ErrorKind::Malformed, None));
            assert_eq!(error.path().unwrap().to_str(), Some("shard-0"));
            let is_within = of_tensor.offset <= at && at < of_tensor.end();
            match load(&sample, tensor) {
                Ok(_) => assert!(!is_within),
                Err(error) => {
                    assert!(is_within);
                    assert_eq!(
                        (error.tensor(), error.extent()),
                        (Some("t1"), Some(of_tensor))
                    );
                }
            }
            sample.shards[0][at as usize] ^= 1;
        }
    }
}

#[test]
fn files_are_hashed_without_a_plan() {
    let sample = sample(2, 70_000);
    let ranges = all_ranges(&sample);
    let options = LoadOptions::default().chunk_bytes(8192);
    let outcome = hash_ranges(&sample.shards(), &ranges[..], &options, &Control::default());
    let found = outcome.unwrap().counts.hashed.unwrap();
    let expected = |range: &HashRange| digest(range.algorithm, bytes_of(&sample, range.extent));
    assert!(
        found
            .digests
            .iter()
            .copied()
            .eq(ranges.iter().map(expected))
    );
    for beyond in [
        Extent::new(ShardId(1), 0, 1),
        Extent::new(ShardId(0), 140_000, 23),
    ] {
        let ranges = [HashRange::new(beyond, HashAlgorithm::Sha256)];
        let refused = hash_ranges(&sample.shards(), ranges, &options, &Control::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misuse);
    }
}

/// Lets the read of the first byte wait until the given number of others are done.
#[derive(Debug)]
struct LateFirst {
    inner: MemoryStorage,
    done: Mutex<usize>,
    changed: Condvar,
    others: usize,
}

impl Storage for LateFirst {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset == 0 {
            let done = self.done.lock().unwrap();
            let is_early = |done: &mut usize| *done < self.others;
            let waited = Duration::from_secs(60);
            let (_done, waited) = self
                .changed
                .wait_timeout_while(done, waited, is_early)
                .unwrap();
            assert!(!waited.timed_out(), "others were not read ahead");
        } else {
            *self.done.lock().unwrap() += 1;
            self.changed.notify_all();
        }
        self.inner.read_at(offset, buf)
    }
}

const WINDOW: usize = 64 << 20;

/// Loads more than the window, of which the first chunk comes last.
fn load_late(options: &LoadOptions, control: &Control) -> Result<Loaded, Error> {
    let sample = Sample {
        catalog: Catalog::builder().finish(),
        shards: vec![pattern(WINDOW + (6 << 20), 9)],
    };
    let late = |inner| {
        let (done, changed) = Default::default();
        // As many as the window has room for.
        let others = WINDOW >> 20;
        let late = LateFirst {
            inner,
            done,
            changed,
            others,
        };
        Arc::new(late) as Arc<dyn Storage>
    };
    let extent = whole(&sample, 0);
    let range = HashRange::expect(extent, digest(HashAlgorithm::Sha256, &sample.shards[0]));
    let options = options
        .clone()
        .chunk_bytes(1 << 20)
        .read_threads(4)
        .hashes([range]);
    let shards = sample.shards_through(late);
    sample.load_controlled(&shards, HostDevice::new(), &options, control)
}

#[test]
fn what_waits_for_its_turn_takes_no_more_than_the_window() {
    let loaded = load_late(&LoadOptions::default(), &Control::default()).unwrap();
    assert_eq!(hashed(&loaded).matched, 1);
    let peak = loaded.report().peak_staging_bytes as usize;
    // With the scratch memory of four threads.
    assert!(
        (WINDOW..=WINDOW + (4 << 20) + (64 << 10)).contains(&peak),
        "{peak}"
    );
}

#[test]
fn nobody_waits_for_a_thread_that_is_gone() {
    // The panic of the function that is told of the first chunk, while others wait for theirs.
    let panics = |progress: tensorlift_loader::Progress| {
        assert!(progress.bytes_done < WINDOW as u64, "on purpose");
    };
    let control = Control::default().progress(panics);
    let load = || load_late(&LoadOptions::default(), &control);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
    assert!(unwound.is_err());
}

#[test]
fn a_failure_wakes_who_waits_and_is_told() {
    let sample = sample(1, 2 << 20);
    let failing = |storage| {
        let error = || io::Error::from_raw_os_error(libc::EIO);
        Arc::new(Failing::new(storage, 0, error)) as Arc<dyn Storage>
    };
    let options = LoadOptions::default()
        .chunk_bytes(4096)
        .read_threads(4)
        .hashes([HashRange::new(whole(&sample, 0), HashAlgorithm::Sha256)]);
    let shards = sample.shards_through(failing);
    let error = sample
        .load(&shards, HostDevice::new(), &options)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
}

#[test]
fn tensors_that_are_handed_on_are_hashed_and_files_refused() {
    let sample = sample(9, 5_000);
    let catalog = Arc::new(sample.catalog.clone());
    let each = |ranges: Vec<HashRange>| {
        let options = LoadOptions::default().window_bytes(12_000).hashes(ranges);
        let (shards, control) = (sample.shards(), Control::default());
        let placement = tensorlift_loader::Placement::default();
        let name = |entry: &tensorlift_tensor_meta::Entry| Some(entry.name().to_owned());
        let mut handed_on = 0;
        let report = tensorlift_loader::load_each(
            &catalog,
            &shards,
            &placement,
            name,
            &options,
            &control,
            |tensors| {
                handed_on += tensors.len();
                Ok(())
            },
        );
        (report, handed_on)
    };
    let entries = sample.catalog.entries().iter().map(Entry::extent);
    let expect = |extent| {
        HashRange::expect(
            extent,
            digest(HashAlgorithm::Blake3, bytes_of(&sample, extent)),
        )
    };
    let mut ranges: Vec<HashRange> = entries.map(expect).collect();
    let (report, handed_on) = each(ranges.clone());
    assert_eq!((report.unwrap().hashed.unwrap().matched, handed_on), (9, 9));

    ranges[5].expected = ranges[4].expected;
    let (report, handed_on) = each(ranges);
    assert_eq!((report.unwrap_err().tensor(), handed_on), (Some("t5"), 5));

    let (report, handed_on) = each(vec![expect(whole(&sample, 0))]);
    assert_eq!(
        (report.unwrap_err().kind(), handed_on),
        (ErrorKind::Misuse, 0)
    );
}
