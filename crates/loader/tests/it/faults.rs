//! Loads that fail: a typed error, nothing handed out, nothing left behind.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tensorlift_device::double::StagedDevice;
use tensorlift_device::{Device, HostDevice};
use tensorlift_loader::{CancelToken, Control, LoadOptions, Shard, execute, plan};
use tensorlift_storage::wrap::Failing;
use tensorlift_storage::{FileStorage, LocalFile, MemoryStorage, ReaderKind, Storage};
use tensorlift_tensor_meta::{
    Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, Source, View,
};

use super::{Sample, naive, pattern};

const THREADS: usize = 3;
const TENSORS: u64 = 40;
const TENSOR_BYTES: u64 = 50_000;

/// A shard of 2 MB.
fn sample() -> Sample {
    let mut builder = Catalog::builder();
    for index in 0..TENSORS {
        let extent = Extent::new(ShardId::FIRST, index * TENSOR_BYTES, TENSOR_BYTES);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([TENSOR_BYTES as usize]).unwrap();
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    let bytes = pattern((TENSORS * TENSOR_BYTES) as usize, 3);
    Sample {
        catalog: builder.finish(),
        shards: vec![bytes],
    }
}

fn options() -> LoadOptions {
    LoadOptions::default()
        .chunk_bytes(16 << 10)
        .read_threads(THREADS)
}

#[test]
fn a_failing_read_names_shard_tensor_and_bytes() {
    let sample = sample();
    let at = 17 * TENSOR_BYTES + 20_000;
    let broken = |storage| {
        Arc::new(Failing::new(storage, at, || {
            io::Error::from_raw_os_error(libc::EIO)
        })) as _
    };
    for device in [true, false] {
        let shards = sample.shards_through(broken);
        let staged = StagedDevice::new(3, 32 << 10);
        let error = match device {
            true => sample.load(&shards, staged.clone(), &options()),
            false => sample.load(&shards, HostDevice::new(), &options()),
        };
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert_eq!(error.tensor(), Some("t17"));
        assert_eq!(error.path().unwrap().to_str(), Some("shard-0"));
        let extent = error.extent().unwrap();
        assert!(
            extent.range().contains(&at) && extent.len <= 16 << 10,
            "{extent}"
        );
        assert_eq!((staged.live_groups(), staged.free_lanes()), (0, 3));
    }
}

/// Reads directly until the kernel has it otherwise: the first read already.
#[derive(Debug)]
struct Refused {
    bytes: MemoryStorage,
    refused: AtomicUsize,
}

impl Storage for Refused {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.refused.fetch_add(1, Ordering::SeqCst);
        self.bytes.read_at(offset, buf)
    }

    fn reader(&self) -> ReaderKind {
        match self.fallback() {
            Some(_) => ReaderKind::Buffered,
            None => ReaderKind::Direct,
        }
    }

    fn as_local(&self) -> Option<&dyn LocalFile> {
        Some(self)
    }
}

impl LocalFile for Refused {
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        Ok(None)
    }

    fn fallback(&self) -> Option<&str> {
        let refused = self.refused.load(Ordering::SeqCst) > 0;
        refused.then_some("accepted when opened, refused when read")
    }
}

#[test]
fn a_reader_that_is_left_while_loading_stands_in_the_report() {
    let sample = sample();
    let shards = sample.shards_through(|bytes| {
        let refused = AtomicUsize::new(0);
        Arc::new(Refused { bytes, refused })
    });
    let loaded = sample.load(&shards, HostDevice::new(), &options()).unwrap();
    let last = loaded.tensor("t39").unwrap().as_bytes().unwrap();
    assert!(last == &sample.shards[0][39 * TENSOR_BYTES as usize..]);
    let file = &loaded.report().files[0];
    assert_eq!(file.reader, Some(ReaderKind::Buffered));
    let [left] = &file.refused[..] else {
        panic!("{file:?}");
    };
    assert_eq!(left.reader, ReaderKind::Direct);
    assert_eq!(left.why, "accepted when opened, refused when read");
}

#[test]
fn a_failing_copy_frees_everything() {
    let sample = sample();
    for copy in [0, 1, 57, 121] {
        let staged = StagedDevice::new(2, 16 << 10).failing_at(copy);
        let error = sample
            .load(&sample.shards(), staged.clone(), &options())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert_eq!((staged.live_groups(), staged.free_lanes()), (0, 2));
    }
}

#[test]
fn a_device_without_room_is_refused_before_a_byte_is_read() {
    let sample = sample();
    let staged = StagedDevice::new(2, 16 << 10).with_memory(1_000_000);
    let error = sample
        .load(&sample.shards(), staged.clone(), &options())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.to_string().contains("1000000 bytes free"), "{error}");
    assert_eq!(staged.copies(), 0);
}

#[test]
fn a_crossed_memory_ceiling_is_refused() {
    let sample = sample();
    let mut options = options();
    options.memory_bytes = Some(1_999_999);
    let error = sample
        .load(&sample.shards(), HostDevice::new(), &options)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    options.memory_bytes = Some(2_100_000);
    sample
        .load(&sample.shards(), HostDevice::new(), &options)
        .unwrap();
}

#[test]
fn more_than_the_machine_has_is_refused() {
    let mut builder = Catalog::builder();
    let record = Record::stored(Extent::new(ShardId::FIRST, 0, 1 << 50));
    let record = builder.record(record).unwrap();
    let layout = Layout::contiguous([1 << 50]).unwrap();
    builder
        .entry("huge", Dtype::U8, layout, View::whole(record))
        .unwrap();
    let sample = Sample {
        catalog: builder.finish(),
        shards: vec![Vec::new()],
    };
    let error = sample
        .load(&sample.shards(), HostDevice::new(), &options())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
}

#[test]
fn cancelling_stops_within_one_chunk_of_each_thread() {
    let sample = sample();
    let staged = StagedDevice::new(3, 16 << 10);
    let device: Arc<dyn Device> = Arc::new(staged.clone());
    let options = options();
    let plan = plan(&sample.catalog, |_| Some(0), &[device.rules()], &options).unwrap();
    for cancel_after in [0, 1, 5, 60] {
        let cancel = CancelToken::new();
        let chunks = Arc::new(AtomicUsize::new(0));
        if cancel_after == 0 {
            cancel.cancel();
        }
        let (token, seen) = (cancel.clone(), Arc::clone(&chunks));
        let progress = move |_| {
            if seen.fetch_add(1, Ordering::SeqCst) + 1 >= cancel_after {
                token.cancel();
            }
        };
        let control = Control::default().cancel_token(cancel).progress(progress);
        let shards = sample.shards();
        let devices = [Arc::clone(&device)];
        let error = execute(
            &plan,
            &sample.catalog,
            &shards,
            &devices,
            &options,
            &control,
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(chunks.load(Ordering::SeqCst) <= cancel_after + THREADS);
        assert_eq!((staged.live_groups(), staged.free_lanes()), (0, 3));
    }
}

#[test]
fn progress_ends_at_all_bytes() {
    let sample = sample();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let files = sample.shards().len();
    let (tensors_done, files_done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (ended, read) = (Arc::clone(&tensors_done), Arc::clone(&files_done));
    let progress = move |progress: tensorlift_loader::Progress| {
        assert_eq!(progress.bytes_total, TENSORS * TENSOR_BYTES);
        assert_eq!(progress.tensors_total as u64, TENSORS);
        assert_eq!(progress.files_total, files);
        ended.fetch_max(progress.tensors_done, Ordering::SeqCst);
        read.fetch_max(progress.files_done, Ordering::SeqCst);
        seen.fetch_max(progress.bytes_done as usize, Ordering::SeqCst);
    };
    let control = Control::default().progress(progress);
    let device: Arc<dyn Device> = Arc::new(HostDevice::new());
    let options = options();
    let plan = plan(&sample.catalog, |_| Some(0), &[device.rules()], &options).unwrap();
    execute(
        &plan,
        &sample.catalog,
        &sample.shards(),
        &[device],
        &options,
        &control,
    )
    .unwrap();
    assert_eq!(most.load(Ordering::SeqCst) as u64, TENSORS * TENSOR_BYTES);
    assert_eq!(tensors_done.load(Ordering::SeqCst) as u64, TENSORS);
    assert_eq!(files_done.load(Ordering::SeqCst), files);
}

#[test]
fn a_shard_cut_short_is_an_error_not_a_signal() {
    let sample = sample();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sample.shards[0]).unwrap();
    let storage = FileStorage::open(file.path()).unwrap();
    file.as_file().set_len(1_000_000).unwrap();
    let shards = [Shard::new(file.path(), Arc::new(storage))];
    let error = sample
        .load(&shards, HostDevice::new(), &options())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.extent().unwrap().end() > 1_000_000);
}

#[test]
fn a_shard_rewritten_meanwhile_is_an_error() {
    let sample = sample();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sample.shards[0]).unwrap();
    let storage = FileStorage::open(file.path()).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    file.as_file().set_modified(later).unwrap();
    let shards = [Shard::new(file.path(), Arc::new(storage))];
    let error = sample
        .load(&shards, HostDevice::new(), &options())
        .unwrap_err();
    assert!(
        error.to_string().contains("changed while it was loaded"),
        "{error}"
    );
}

#[test]
fn inflated_bytes_that_are_not_as_many_as_claimed_are_malformed() {
    let deflated = naive::deflate(&pattern(1000, 9));
    for (claimed, cut) in [(999, 0), (1001, 0), (1000, 5), (1 << 20, 0)] {
        let mut builder = Catalog::builder();
        let extent = Extent::new(ShardId::FIRST, 0, deflated.len() as u64 - cut);
        let source = Source::Deflated {
            extent,
            len: claimed,
        };
        let record = builder.record(Record::new(source)).unwrap();
        let layout = Layout::contiguous([claimed as usize]).unwrap();
        builder
            .entry("t", Dtype::U8, layout, View::whole(record))
            .unwrap();
        let sample = Sample {
            catalog: builder.finish(),
            shards: vec![deflated.clone()],
        };
        let error = sample
            .load(&sample.shards(), HostDevice::new(), &options())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.tensor()),
            (ErrorKind::Malformed, Some("t")),
            "{error}"
        );
    }
}

#[test]
fn a_storage_without_a_mapping_cannot_be_viewed() {
    let sample = sample();
    let mut options = options();
    options.mode = tensorlift_loader::Mode::Map;
    let pieces = |storage: MemoryStorage| {
        Arc::new(tensorlift_storage::wrap::Chopped::new(storage, 100)) as _
    };
    let shards = sample.shards_through(pieces);
    let error = sample
        .load(&shards, HostDevice::new(), &options)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

/// The sample with the sums of its tensors declared; `wrong` gets a false one.
fn summed(wrong: Option<usize>) -> Sample {
    let Sample { catalog, shards } = sample();
    let mut builder = Catalog::builder();
    for (index, entry) in catalog.entries().iter().enumerate() {
        let extent = entry.extent();
        let bytes = &shards[0][extent.offset as usize..extent.end() as usize];
        let sum = crc32fast::hash(bytes) ^ u32::from(wrong == Some(index));
        let source = Source::Stored(extent);
        let record = builder.record(Record::new(source).crc32(sum)).unwrap();
        let view = View::whole(record);
        builder
            .entry(entry.name(), entry.dtype(), entry.layout().clone(), view)
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards,
    }
}

#[test]
fn declared_sums_are_checked_when_asked_for() {
    use tensorlift_loader::{Mode, Verify};

    for mode in [Mode::Copy, Mode::Map] {
        let options = options().mode(mode).chunk_bytes(12_345);
        for device in [true, false] {
            let load = |sample: &Sample, options: &LoadOptions| match device && mode == Mode::Copy {
                true => sample.load(&sample.shards(), StagedDevice::new(2, 16 << 10), options),
                false => sample.load(&sample.shards(), HostDevice::new(), options),
            };
            load(&summed(None), &options.clone().verify(Verify::Crc32)).unwrap();
            load(&summed(Some(29)), &options).unwrap();
            let error = load(&summed(Some(29)), &options.clone().verify(Verify::Crc32));
            let error = error.unwrap_err();
            assert_eq!(
                (error.kind(), error.tensor()),
                (ErrorKind::Malformed, Some("t29"))
            );
            assert_eq!(error.path().unwrap().to_str(), Some("shard-0"));
        }
    }
}
