//! Tensors that are handed on while others are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tensorlift_device::{
    Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostDevice,
};
use tensorlift_loader::{Control, LoadOptions, LoadReport, Placement, Shard, Tensor, load_each};
use tensorlift_storage::wrap::Failing;
use tensorlift_tensor_meta::{
    Catalog, Dtype, Entry, Error, ErrorKind, Extent, Layout, Record, ShardId, View,
};

use super::{Sample, pattern};

const TENSORS: usize = 60;
const TENSOR_BYTES: usize = 10_000;

/// Tensors of two shards, in turns, each in the reverse order of its names.
fn sample() -> Sample {
    let mut builder = Catalog::builder();
    for index in 0..TENSORS {
        let shard = ShardId(index as u32 % 2);
        let offset = (TENSORS / 2 - 1 - index / 2) * TENSOR_BYTES;
        let extent = Extent::new(shard, offset as u64, TENSOR_BYTES as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([TENSOR_BYTES]).unwrap();
        let name = format!("{}.t{index}", index % 3);
        builder
            .entry(name, Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![
            pattern(TENSORS / 2 * TENSOR_BYTES, 1),
            pattern(TENSORS / 2 * TENSOR_BYTES, 2),
        ],
    }
}

/// Host memory that counts how much of it is alive.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Device for Counting {
    fn name(&self) -> String {
        "counting".into()
    }

    fn rules(&self) -> GroupRules {
        HostDevice::new().rules()
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let now = self.0.now.fetch_add(request.bytes, Ordering::SeqCst) + request.bytes;
        self.0.most.fetch_max(now, Ordering::SeqCst);
        Ok(Box::new(CountingGroup {
            inner: HostDevice::new().allocate(request)?,
            bytes: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct CountingGroup {
    inner: Box<dyn Group>,
    bytes: Arc<Bytes>,
}

impl Group for CountingGroup {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn destination(&mut self) -> Destination<'_> {
        self.inner.destination()
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        self.inner.finish()
    }

    fn as_host(&self) -> Option<&[u8]> {
        self.inner.as_host()
    }
}

impl Drop for CountingGroup {
    fn drop(&mut self) {
        self.bytes.now.fetch_sub(self.inner.len(), Ordering::SeqCst);
    }
}

fn each(
    sample: &Sample,
    shards: &[Shard],
    device: Counting,
    window_bytes: u64,
    unit_of: impl Fn(&Entry) -> Option<String>,
    handle: impl FnMut(Vec<Tensor>) -> Result<(), Error>,
) -> Result<LoadReport, Error> {
    load_each(
        &Arc::new(sample.catalog.clone()),
        shards,
        &Placement::on(device),
        unit_of,
        &LoadOptions::default().window_bytes(window_bytes),
        &Control::default(),
        handle,
    )
}

fn own_name(entry: &Entry) -> Option<String> {
    Some(entry.name().to_owned())
}

#[test]
fn tensors_come_in_file_order_within_the_window() {
    let sample = sample();
    for window in [1, 15_000, 40_000, 1 << 30] {
        let device = Counting::default();
        let mut last = (ShardId::FIRST, 0);
        let mut seen = 0;
        let handle = |tensors: Vec<Tensor>| {
            for tensor in tensors {
                let extent = tensor.entry().extent();
                assert!(seen == 0 || last < (extent.shard, extent.offset));
                let from = &sample.shards[extent.shard.index()][extent.offset as usize..];
                assert!(tensor.as_bytes()? == &from[..TENSOR_BYTES]);
                (last, seen) = ((extent.shard, extent.offset), seen + 1);
            }
            Ok(())
        };
        let bytes = Arc::clone(&device.0);
        let report = each(&sample, &sample.shards(), device, window, own_name, handle).unwrap();
        let all = (TENSORS * TENSOR_BYTES) as u64;
        assert_eq!((seen, report.tensors), (TENSORS, TENSORS));
        assert_eq!((report.bytes_wanted, report.bytes_read), (all, all));
        assert_eq!(report.files.len(), 2);
        // A group is as long as its tensors, up to their alignment.
        let most = bytes.most.load(Ordering::SeqCst);
        let allowed = window.max(TENSOR_BYTES as u64) as usize;
        assert!(
            most <= allowed + allowed / TENSOR_BYTES * 128 + 4096,
            "{most}"
        );
        assert_eq!(bytes.now.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn units_come_whole() {
    let sample = sample();
    let unit_of = |entry: &Entry| match entry.name().split_once('.') {
        Some(("2", _)) | None => None,
        Some((unit, _)) => Some(unit.to_owned()),
    };
    let mut units = Vec::new();
    let handle = |tensors: Vec<Tensor>| {
        let unit = tensors[0].name()[..1].to_owned();
        assert!(
            tensors
                .iter()
                .all(|tensor| tensor.name().starts_with(&unit))
        );
        units.push((unit, tensors.len()));
        Ok(())
    };
    each(
        &sample,
        &sample.shards(),
        Counting::default(),
        1,
        unit_of,
        handle,
    )
    .unwrap();
    units.sort_unstable();
    assert_eq!(units, [("0".to_owned(), 20), ("1".to_owned(), 20)]);
}

#[test]
fn an_error_of_either_side_ends_the_load() {
    let sample = sample();
    let (device, mut handled) = (Counting::default(), 0);
    let handle = |_: Vec<Tensor>| {
        handled += 1;
        match handled {
            5 => Err(Error::new(ErrorKind::Misuse, "enough")),
            _ => Ok(()),
        }
    };
    let bytes = Arc::clone(&device.0);
    let error = each(&sample, &sample.shards(), device, 20_000, own_name, handle);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!((handled, bytes.now.load(Ordering::SeqCst)), (5, 0));

    let broken = sample.shards_through(|storage| {
        let at = 7 * TENSOR_BYTES as u64;
        Arc::new(Failing::new(storage, at, || {
            std::io::Error::other("broken")
        }))
    });
    let (device, mut handled) = (Counting::default(), 0);
    let handle = |tensors: Vec<Tensor>| {
        handled += tensors.len();
        Ok(())
    };
    let error = each(&sample, &broken, device, 20_000, own_name, handle).unwrap_err();
    assert_eq!((error.kind(), handled), (ErrorKind::Storage, 7));
}
