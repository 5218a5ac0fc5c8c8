//! What loads may use, alone and together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;
use std::{io, thread};

use tensorlift_device::double::StagedDevice;
use tensorlift_device::{Device, DeviceError, Group, GroupRequest, GroupRules, HostDevice};
use tensorlift_loader::{Budget, BudgetLimits, LoadOptions, Shard};
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, View};

use super::{Sample, pattern};

const SHARDS: u32 = 6;
const SHARD_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 16 << 10;

/// Shards of four tensors each.
fn sample() -> Sample {
    let mut builder = Catalog::builder();
    let elements = SHARD_BYTES / 4;
    for shard in 0..SHARDS {
        for index in 0..4 {
            let offset = (index * elements) as u64;
            let extent = Extent::new(ShardId(shard), offset, elements as u64);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([elements]).unwrap();
            let name = format!("{shard}.{index}");
            builder
                .entry(name, Dtype::U8, layout, View::whole(record))
                .unwrap();
        }
    }
    let shards = (0..SHARDS).map(|shard| pattern(SHARD_BYTES, shard.into()));
    Sample {
        catalog: builder.finish(),
        shards: shards.collect(),
    }
}

fn limits(set: impl FnOnce(&mut BudgetLimits)) -> BudgetLimits {
    let mut limits = BudgetLimits::default();
    set(&mut limits);
    limits
}

fn options(limits: BudgetLimits) -> LoadOptions {
    LoadOptions::default()
        .chunk_bytes(CHUNK_BYTES)
        .budget(Budget::new(limits))
}

/// Something that is counted while it lasts.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn rise(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn fall(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// What the storages of a load were asked for at once.
#[derive(Debug, Default)]
struct Watch {
    reads: Gauge,
    open: Gauge,
}

/// A storage whose reads take long enough to meet each other.
#[derive(Debug)]
struct Watched {
    inner: MemoryStorage,
    is_open: AtomicBool,
    watch: Arc<Watch>,
}

impl Storage for Watched {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if !self.is_open.swap(true, Ordering::SeqCst) {
            self.watch.open.rise();
        }
        self.watch.reads.rise();
        thread::sleep(Duration::from_millis(2));
        self.watch.reads.fall();
        self.inner.read_at(offset, buf)
    }

    fn release(&self) {
        if self.is_open.swap(false, Ordering::SeqCst) {
            self.watch.open.fall();
        }
    }
}

fn watched(sample: &Sample) -> (Vec<Shard>, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let shards = sample.shards_through(|inner| {
        Arc::new(Watched {
            inner,
            is_open: AtomicBool::new(false),
            watch: Arc::clone(&watch),
        })
    });
    (shards, watch)
}

/// Host memory that counts what is allocated.
#[derive(Clone, Debug, Default)]
struct CountingDevice {
    allocated: Arc<AtomicUsize>,
}

impl Device for CountingDevice {
    fn name(&self) -> String {
        "counting".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules::default()
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        self.allocated.fetch_add(request.bytes, Ordering::SeqCst);
        HostDevice::new().allocate(request)
    }
}

#[test]
fn memory_is_refused_before_it_is_allocated() {
    let sample = sample();
    let needed = SHARDS as usize * SHARD_BYTES;
    let below = needed as u64 - 1;
    let own = |bytes| options(BudgetLimits::default()).memory_bytes(bytes);
    let shared = |bytes| options(limits(|limits| limits.memory_bytes = Some(bytes)));
    for with_limit in [&own as &dyn Fn(u64) -> LoadOptions, &shared] {
        let (shards, watch) = watched(&sample);
        let device = CountingDevice::default();
        let refused = sample.load(&shards, device.clone(), &with_limit(below));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let message = error.to_string();
        for number in [needed.to_string(), below.to_string()] {
            assert!(message.contains(&number), "{message}");
        }
        assert_eq!(device.allocated.load(Ordering::SeqCst), 0);
        assert_eq!(watch.reads.most(), 0);

        sample
            .load(&shards, device.clone(), &with_limit(below + 1))
            .unwrap();
        assert_eq!(device.allocated.load(Ordering::SeqCst), needed);
    }
}

#[test]
fn scratch_memory_is_counted_and_decides_how_many_read() {
    const SIDE: usize = 512;
    const BYTES: u64 = (SIDE * SIDE) as u64;
    // Four transposed matrices, each read whole before it is put in order.
    let mut builder = Catalog::builder();
    for index in 0..4 {
        let extent = Extent::new(ShardId::FIRST, index * BYTES, BYTES);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::strided([SIDE, SIDE], [1, SIDE]).unwrap();
        let view = View::whole(record);
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, view)
            .unwrap();
    }
    let sample = Sample {
        catalog: builder.finish(),
        shards: vec![pattern(4 * BYTES as usize, 1)],
    };
    let load = |options: LoadOptions| {
        let options = options.row_major(true).read_threads(4);
        sample.load(&sample.shards(), HostDevice::new(), &options)
    };
    let own = |bytes| options(BudgetLimits::default()).memory_bytes(bytes);
    let shared = |bytes| options(limits(|limits| limits.memory_bytes = Some(bytes)));
    for with_limit in [&own as &dyn Fn(u64) -> LoadOptions, &shared] {
        for (scratch, threads) in [(1, 1), (2, 2), (3, 3), (9, 4)] {
            let loaded = load(with_limit((4 + scratch) * BYTES)).unwrap();
            assert_eq!(loaded.report().threads, threads);
            let tensor = loaded.tensor("t3").unwrap();
            let row: Vec<u8> = sample.shards[0][3 * BYTES as usize..]
                .iter()
                .step_by(SIDE)
                .copied()
                .collect();
            assert!(tensor.as_bytes().unwrap()[..SIDE] == row[..]);
        }
        let error = load(with_limit(5 * BYTES - 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains(&BYTES.to_string()), "{error}");
    }
}

#[test]
fn staging_stays_within_the_budget() {
    let sample = sample();
    for (staging_bytes, most) in [(0, 1), (3 * CHUNK_BYTES as u64 + 100, 3)] {
        let limits = limits(|limits| limits.staging_bytes = staging_bytes);
        let (shards, watch) = watched(&sample);
        let device = StagedDevice::new(8, CHUNK_BYTES);
        let loaded = sample.load(&shards, device.clone(), &options(limits).read_threads(8));
        let report = loaded.unwrap().report().clone();
        assert_eq!(report.threads, most);
        assert_eq!(device.most_lanes_held(), most);
        assert_eq!(watch.reads.most(), most);
        assert_eq!(report.peak_staging_bytes, (most * CHUNK_BYTES) as u64);
    }
}

#[test]
fn a_device_says_how_many_read_for_it_and_has_lanes_for_so_many() {
    let sample = sample();
    for (readers, lanes, expected) in [(6, 8, 6), (6, 3, 3), (1, 8, 1)] {
        let mut rules = StagedDevice::new(1, 1).rules();
        rules.readers = Some(readers);
        let device = StagedDevice::new(lanes, CHUNK_BYTES).with_rules(rules);
        let options = LoadOptions::default().chunk_bytes(CHUNK_BYTES);
        let loaded = sample.load(&sample.shards(), device.clone(), &options);
        let loaded = loaded.unwrap();
        assert_eq!(loaded.report().files[0].first_threads, readers);
        assert_eq!(loaded.report().threads, expected);
        assert!(device.most_lanes_held() <= expected);
    }
}

#[test]
fn threads_stay_within_the_budget() {
    let sample = sample();
    let limits = limits(|limits| limits.threads = 2);
    // Storage this slow asks for more.
    for read_threads in [None, Some(8)] {
        let (shards, watch) = watched(&sample);
        let mut options = options(limits.clone());
        options.read_threads = read_threads;
        let loaded = sample.load(&shards, HostDevice::new(), &options).unwrap();
        assert_eq!(watch.reads.most(), 2);
        if read_threads.is_some() {
            assert_eq!(loaded.report().threads, 2);
        }
    }
}

#[test]
fn shards_are_opened_a_few_at_a_time() {
    let sample = sample();
    for (open_shards, threads) in [(1, 1), (2, 1), (1, 3), (2, 3)] {
        let limits = limits(|limits| limits.open_shards = open_shards);
        let (shards, watch) = watched(&sample);
        let options = options(limits).read_threads(threads);
        sample.load(&shards, HostDevice::new(), &options).unwrap();
        let most = watch.open.most();
        assert!(
            (open_shards..open_shards + threads).contains(&most),
            "{most}"
        );
        assert_eq!(watch.open.now.load(Ordering::SeqCst), 0);
    }
}

/// Runs loads at once that share a budget and a device; `None` for those that were refused.
fn at_once(loads: usize, limits: BudgetLimits, device: impl Device + Clone + 'static) -> usize {
    let options = options(limits).read_threads(4);
    let sample = Arc::new(sample());
    let (done, finished) = mpsc::channel();
    let barrier = Arc::new(Barrier::new(loads));
    for _ in 0..loads {
        let (sample, options, device) = (Arc::clone(&sample), options.clone(), device.clone());
        let (done, barrier) = (done.clone(), Arc::clone(&barrier));
        thread::spawn(move || {
            barrier.wait();
            let (shards, _) = watched(&sample);
            let loaded = sample.load(&shards, device, &options);
            let is_right = loaded.map(|loaded| {
                loaded.tensors().iter().all(|tensor| {
                    let extent = tensor.entry().extent();
                    let range = extent.offset as usize..extent.end() as usize;
                    tensor.as_bytes().unwrap() == &sample.shards[extent.shard.index()][range]
                })
            });
            done.send(is_right).unwrap();
        });
    }
    let mut refused = 0;
    for _ in 0..loads {
        // Far more than the loads take; a deadlock takes longer.
        match finished.recv_timeout(Duration::from_secs(60)).unwrap() {
            Ok(is_right) => assert!(is_right),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
                refused += 1;
            }
        }
    }
    refused
}

#[test]
fn loads_at_once_share_a_tight_budget() {
    let tight = limits(|limits| {
        limits.staging_bytes = CHUNK_BYTES as u64;
        limits.threads = 2;
        limits.open_shards = 1;
    });
    for loads in [2, 4] {
        assert_eq!(at_once(loads, tight.clone(), HostDevice::new()), 0);
        // One lane for all: each thread waits for it, and holds no other.
        let staged = StagedDevice::new(1, CHUNK_BYTES);
        assert_eq!(at_once(loads, tight.clone(), staged.clone()), 0);
        assert_eq!((staged.live_groups(), staged.free_lanes()), (0, 1));
    }
}

#[test]
fn loads_at_once_without_memory_are_refused_not_kept_waiting() {
    let tight = limits(|limits| {
        limits.memory_bytes = Some(u64::from(SHARDS) * SHARD_BYTES as u64);
        limits.threads = 1;
    });
    assert!(at_once(4, tight, HostDevice::new()) <= 3);
}
