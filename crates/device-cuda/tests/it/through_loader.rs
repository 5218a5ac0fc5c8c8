//! The loader drives the device: whole checkpoints, from files, over several devices.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tensorlift_device::{Device, HostDevice};
use tensorlift_device_cuda::{CudaBuffer, CudaDevice, Gds};
use tensorlift_fake_cuda::harness::{Control as Fakery, Fake};
use tensorlift_loader::{
    CancelToken, Control, LoadOptions, LoadReport, Loaded, Reader, Shard, execute, plan,
};
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::{
    Catalog, Dtype, Error, ErrorKind, Extent, Layout, Record, ShardId, View,
};

use crate::drive::noise;
use crate::files::file_of;

const DTYPES: [Dtype; 4] = [Dtype::U8, Dtype::BF16, Dtype::F32, Dtype::F64];

/// A checkpoint in two files.
pub(crate) struct Checkpoint {
    catalog: Arc<Catalog>,
    pub(crate) shards: [Vec<u8>; 2],
    files: [Arc<File>; 2],
}

/// Entries as (shard, dtype, elements, bytes of gap before).
pub(crate) type Entries = Vec<(usize, usize, usize, usize)>;

fn entries() -> impl Strategy<Value = Entries> {
    let gap = prop_oneof![Just(0usize), 0usize..20, 0usize..6000];
    prop::collection::vec((0..2usize, 0..DTYPES.len(), 0..3000usize, gap), 0..40)
}

impl Checkpoint {
    pub(crate) fn new(entries: &Entries) -> Self {
        let mut builder = Catalog::builder();
        let mut ends = [0, 0];
        for (number, &(shard, dtype, elements, gap)) in entries.iter().enumerate() {
            let dtype = DTYPES[dtype];
            let offset = ends[shard] + gap;
            let len = elements * dtype.byte_len().unwrap();
            ends[shard] = offset + len;
            let extent = Extent::new(ShardId(shard as u32), offset as u64, len as u64);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([elements]).unwrap();
            let name = format!("t{number}");
            builder
                .entry(name, dtype, layout, View::whole(record))
                .unwrap();
        }
        let shards = [noise(ends[0], 1), noise(ends[1], 2)];
        Self {
            catalog: Arc::new(builder.finish()),
            files: [&shards[0], &shards[1]].map(|bytes| Arc::new(file_of(bytes))),
            shards,
        }
    }

    /// 60 tensors, of which many are smaller than a chunk and some larger.
    fn sample() -> Self {
        let entry = |i: usize| (i % 2, i % 4, (i * 911) % 2999, (i * 7) % 13);
        Self::new(&(0..60).map(entry).collect())
    }

    /// Loads, with entries spread evenly over the devices.
    pub(crate) fn load(
        &self,
        devices: &[Arc<dyn Device>],
        options: &LoadOptions,
        control: &Control,
    ) -> Result<Loaded, Error> {
        let shard = |file: &Arc<File>| {
            let storage = FileStorage::from_file(Arc::clone(file)).unwrap();
            Shard::new("shard", Arc::new(storage))
        };
        let shards: Vec<_> = self.files.iter().map(shard).collect();
        let rules: Vec<_> = devices.iter().map(|device| device.rules()).collect();
        let place = |entry: usize| Some(entry % devices.len());
        let plan = plan(
            &self.catalog,
            |entry| place(self.catalog.position(entry.name()).unwrap()),
            &rules,
            options,
        )?;
        let filled = execute(&plan, &self.catalog, &shards, devices, options, control)?;
        let catalog = Arc::clone(&self.catalog);
        let mut report = LoadReport::default();
        report.threads = filled.outcome.counts.threads;
        report.peak_staging_bytes = filled.outcome.counts.peak_staging_bytes;
        Ok(Loaded::new(catalog, plan, filled, report))
    }

    /// Compares every tensor with the file's own bytes.
    pub(crate) fn check(&self, loaded: &Loaded, alignment: usize) {
        assert_eq!(loaded.tensors().len(), self.catalog.len());
        for tensor in loaded {
            let extent = tensor.entry().extent();
            let expected = &self.shards[extent.shard.index()][extent.offset as usize..];
            let expected = &expected[..tensor.span_bytes()];
            let found = match CudaBuffer::of(tensor.group().as_ref()) {
                None => tensor.as_bytes().unwrap().to_vec(),
                Some(buffer) => {
                    assert_eq!(tensor.offset() % alignment, 0);
                    let mut bytes = vec![0; expected.len()];
                    buffer.read(tensor.offset(), &mut bytes).unwrap();
                    bytes
                }
            };
            assert!(found == expected, "{} differs", tensor.name());
        }
    }
}

fn small_chunks() -> LoadOptions {
    LoadOptions::default().chunk_bytes(4096).read_threads(3)
}

fn device(ordinal: usize, gds: Gds) -> CudaDevice {
    crate::drive::options(ordinal).gds(gds).build().unwrap()
}

#[test]
fn any_checkpoint_arrives_on_two_gpus_and_the_host() {
    Fake::new("through_loader::any_checkpoint_arrives_on_two_gpus_and_the_host")
        .with_cufile()
        .set("devices", 2)
        .set("copy_delay_us", 20)
        .run(|control| {
            let mut runner = TestRunner::new(Config {
                cases: 60,
                failure_persistence: None,
                ..Config::default()
            });
            let choice = (
                entries(),
                0usize..9,
                any::<bool>(),
                any::<bool>(),
                prop_oneof![Just(u64::MAX), 1u64..60_000],
            );
            runner
                .run(
                    &choice,
                    |(entries, shift, pulls, one_dtype, group_bytes)| {
                        let checkpoint = Checkpoint::new(&entries);
                        let gpu = |ordinal| {
                            crate::drive::options(ordinal)
                                .gds(if pulls { Gds::On } else { Gds::Off })
                                .tensor_alignment(1 << shift)
                                .one_dtype(one_dtype)
                                .group_bytes(group_bytes)
                                .build()
                                .unwrap()
                        };
                        let devices: [Arc<dyn Device>; 3] = [
                            Arc::new(gpu(0)),
                            Arc::new(HostDevice::new()),
                            Arc::new(gpu(1)),
                        ];
                        let loaded =
                            checkpoint.load(&devices, &small_chunks(), &Control::default());
                        checkpoint.check(&loaded.unwrap(), 1 << shift);
                        drop(devices);
                        prop_assert!(control.counts().is_clean(), "{:?}", control.counts());
                        Ok(())
                    },
                )
                .unwrap();
            let calls = control.calls();
            assert!(calls["cuFileRead"] > 0 && calls["cuMemcpyHtoDAsync_v2"] > 0);
            assert_eq!(control.counts().pageable_copies, 0);
        });
}

#[test]
fn every_reader_fills_the_lanes() {
    Fake::new("through_loader::every_reader_fills_the_lanes").run(|_| {
        let checkpoint = Checkpoint::sample();
        for reader in [Reader::Auto, Reader::Buffered, Reader::Direct] {
            let devices: [Arc<dyn Device>; 1] = [Arc::new(device(0, Gds::Off))];
            let options = small_chunks().reader(reader);
            let loaded = checkpoint.load(&devices, &options, &Control::default());
            checkpoint.check(&loaded.unwrap(), 16);
        }
    });
}

#[test]
fn a_load_may_be_cancelled_at_every_chunk() {
    Fake::new("through_loader::a_load_may_be_cancelled_at_every_chunk")
        .set("copy_delay_us", 100)
        .run(|control| {
            let checkpoint = Checkpoint::sample();
            let gpu = device(0, Gds::Off);
            let devices: [Arc<dyn Device>; 1] = [Arc::new(gpu.clone())];
            let mut cancelled = 0;
            for stop_at in 0.. {
                let cancel = CancelToken::new();
                let (token, chunks) = (cancel.clone(), AtomicUsize::new(0));
                let progress = move |_| {
                    if chunks.fetch_add(1, Ordering::SeqCst) == stop_at {
                        token.cancel();
                    }
                };
                let hands = Control::default().cancel_token(cancel).progress(progress);
                match checkpoint.load(&devices, &small_chunks(), &hands) {
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Cancelled);
                        cancelled += 1;
                    }
                    Ok(loaded) => {
                        checkpoint.check(&loaded, 16);
                        break;
                    }
                }
                let counts = control.counts();
                assert_eq!(counts.allocations, 0, "at {stop_at}");
                assert_eq!(control.violations(), "");
            }
            assert!(cancelled > 30, "{cancelled}");
        });
}

#[test]
fn every_call_may_fail_under_the_loader() {
    Fake::new("through_loader::every_call_may_fail_under_the_loader").run(|control| {
        let checkpoint = Checkpoint::sample();
        let load = || -> Result<(), Error> {
            let gpu = crate::drive::options(0).gds(Gds::Off).build()?;
            let devices: [Arc<dyn Device>; 1] = [Arc::new(gpu)];
            // One thread, so that the calls come in one order.
            let options = small_chunks().read_threads(1);
            drop(checkpoint.load(&devices, &options, &Control::default())?);
            Ok(())
        };
        let calls = |control: &Fakery| {
            let before = control.calls();
            load().unwrap();
            let after = control.calls().into_iter();
            after.map(move |(call, count)| {
                let made = count - before.get(&call).unwrap_or(&0);
                (call, made)
            })
        };
        let mut failed = 0;
        for (call, made) in calls(control) {
            // A few of each: all of them are tried without the loader.
            let step = (made / 5).max(1) as usize;
            for number in (1..=made).step_by(step) {
                control.fail(&call, number, 999);
                if let Err(error) = load() {
                    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
                    failed += 1;
                }
                control.forget_faults();
                let counts = control.counts();
                assert!(counts.is_clean(), "{call} {number}: {counts:?}");
            }
        }
        assert!(failed > 20, "{failed}");
    });
}

#[test]
fn a_full_device_is_refused_before_a_byte_is_read() {
    Fake::new("through_loader::a_full_device_is_refused_before_a_byte_is_read")
        .set("memory", 50_000)
        .run(|control| {
            let checkpoint = Checkpoint::sample();
            let devices: [Arc<dyn Device>; 1] = [Arc::new(device(0, Gds::Off))];
            let error = checkpoint
                .load(&devices, &small_chunks(), &Control::default())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Device);
            assert!(error.to_string().contains("50000 bytes free"), "{error}");
            assert!(!control.calls().contains_key("cuMemAlloc_v2"));
        });
}
