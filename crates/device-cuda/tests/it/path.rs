//! What a load calls, in which order and how often, and what that comes to by prices that were
//! measured on a GPU. No test here takes the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use tensorlift_device::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules};
use tensorlift_device_cuda::cudarc::driver::{CudaContext, CudaEvent, CudaSlice, DevicePtr};
use tensorlift_device_cuda::{CallerMemory, CudaBuffer, CudaDevice, GdsReport};
use tensorlift_fake_cuda::costs::Costs;
use tensorlift_fake_cuda::harness::{Control as Fakery, Fake};
use tensorlift_loader::{Budget, BudgetLimits, Control, LoadOptions};

use crate::drive::noise;
use crate::through_loader::Checkpoint;

/// Bytes of a real load for each byte of a load here; slots are smaller by the same factor.
const SCALE: u64 = 64;
const SLOT: usize = (2 << 20) / SCALE as usize;

/// A GPU in a machine of 16 cores, at that scale.
fn gpu() -> CudaDevice {
    let options = CudaDevice::options(0).lanes(16).slot_bytes(SLOT);
    options.build().unwrap()
}

/// As many readers as there, whatever this machine has.
fn sixteen() -> LoadOptions {
    LoadOptions::default().read_threads(16)
}

/// A checkpoint of four tensors.
fn checkpoint(bytes: u64) -> Checkpoint {
    let each = usize::try_from(bytes / SCALE / 8).unwrap();
    Checkpoint::new(&vec![(0, 1, each, 0); 4])
}

fn load(checkpoint: &Checkpoint, device: &CudaDevice) {
    let devices: [Arc<dyn Device>; 1] = [Arc::new(device.clone())];
    let options = sixteen();
    let loaded = checkpoint.load(&devices, &options, &Control::default());
    let loaded = loaded.unwrap();
    checkpoint.check(&loaded, 16);
}

/// How often each call was made, without those that make a context current: they are once for each
/// lane that is borrowed, and so for each reader that came to a chunk.
fn counts(control: &Fakery) -> (BTreeMap<String, u64>, u64) {
    let (mut counts, mut binds) = (BTreeMap::new(), 0);
    for call in control.log() {
        match call.name.as_str() {
            "cuCtxGetCurrent" | "cuCtxSetCurrent" => binds += 1,
            // The test reads the tensors back.
            "cuMemcpyDtoHAsync_v2" | "cuStreamSynchronize" => {}
            _ => *counts.entry(call.name).or_default() += 1,
        }
    }
    control.forget_log();
    (counts, binds)
}

fn expected<const N: usize>(calls: [(&str, u64); N]) -> BTreeMap<String, u64> {
    calls.map(|(call, count)| (call.to_owned(), count)).into()
}

#[test]
fn a_load_makes_these_calls_and_a_second_one_makes_nothing_but_its_group() {
    Fake::new("path::a_load_makes_these_calls_and_a_second_one_makes_nothing_but_its_group")
        .with_cufile()
        .run(|control| {
            let device = gpu();
            for chunks in [200, 800] {
                let checkpoint = checkpoint(chunks * SCALE * SLOT as u64);
                let made = |chunks| {
                    [
                        ("cuMemGetInfo_v2", 1),
                        ("cuMemAlloc_v2", 1),
                        ("cuMemFree_v2", 1),
                        // Three for each chunk.
                        ("cuMemcpyHtoDAsync_v2", chunks),
                        ("cuEventRecord", chunks),
                        ("cuEventSynchronize", chunks),
                    ]
                };
                let mut first = expected(made(chunks));
                if chunks == 200 {
                    first.extend(expected([
                        ("cuInit", 1),
                        ("cuDeviceGetCount", 1),
                        ("cuDeviceGet", 1),
                        ("cuDeviceGetName", 1),
                        ("cuDevicePrimaryCtxRetain", 1),
                        // Of all 16 lanes, and one more stream.
                        ("cuMemHostRegister_v2", 1),
                        ("cuStreamCreate", 17),
                        ("cuEventCreate", 32),
                    ]));
                }
                load(&checkpoint, &device);
                let (found, binds) = counts(control);
                assert_eq!(found, first);
                // Not for each chunk.
                assert!(binds < 200, "{binds}");
                load(&checkpoint, &device);
                assert_eq!(counts(control).0, expected(made(chunks)));
            }
            assert_eq!(device.report().unwrap().gds, GdsReport::NotAsked);
        });
}

#[test]
fn by_the_prices_of_an_h100_the_default_is_near_the_bus() {
    Fake::new("path::by_the_prices_of_an_h100_the_default_is_near_the_bus").run(|control| {
        let after_start = |checkpoint: &Checkpoint, device: &CudaDevice, scale| {
            control.forget_log();
            let devices: [Arc<dyn Device>; 1] = [Arc::new(device.clone())];
            let options = sixteen();
            let loaded = checkpoint.load(&devices, &options, &Control::default());
            let loaded = loaded.unwrap();
            let path = Costs::h100().path(&control.log(), 16, scale);
            drop(loaded);
            path.total - path.start
        };
        for (bytes, most) in [(4_450_000_000, 0.100), (1_000_000_000, 0.030)] {
            let (checkpoint, device) = (checkpoint(bytes), gpu());
            let first = after_start(&checkpoint, &device, SCALE);
            assert!(first < most, "{bytes} bytes: {first} s after the start");
            // A second load is as fast as reads, copies and nothing else were there: 50 GB/s.
            let second = after_start(&checkpoint, &device, SCALE);
            let bare = bytes as f64 / 50e9;
            assert!(second < bare / 0.95, "{bytes} bytes again: {second} s");
        }
        // 20,000 tensors of 64 bytes, at their own size.
        let tiny = Checkpoint::new(&vec![(0, 2, 16, 0); 20_000]);
        let first = after_start(&tiny, &CudaDevice::new(0).unwrap(), 1);
        assert!(first < 0.005, "{first} s after the start");
    });
}

#[test]
fn fewer_lanes_than_readers_serve_loads_at_once() {
    Fake::new("path::fewer_lanes_than_readers_serve_loads_at_once")
        .set("copy_delay_us", 20)
        .set("devices", 2)
        .run(|control| {
            let options = |ordinal| CudaDevice::options(ordinal).lanes(2).slot_bytes(SLOT);
            let device = |ordinal| options(ordinal).build().unwrap();
            let devices: [Arc<dyn Device>; 2] = [Arc::new(device(0)), Arc::new(device(1))];
            let checkpoint = checkpoint(100 * SCALE * SLOT as u64);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let options = sixteen();
                        let loaded = checkpoint.load(&devices, &options, &Control::default());
                        let loaded = loaded.unwrap();
                        assert!(loaded.report().threads <= 2);
                        checkpoint.check(&loaded, 16);
                    });
                }
            });
            // Both devices have their lanes, and no load made more.
            assert_eq!(control.counts().pinned_bytes, 2 * 2 * 2 * SLOT as u64);
        });
}

#[test]
fn the_budget_counts_every_slot() {
    Fake::new("path::the_budget_counts_every_slot").run(|_| {
        let checkpoint = checkpoint(100 * SCALE * SLOT as u64);
        for (lanes_allowed, threads) in [(100, 16), (3, 3), (1, 1), (0, 1)] {
            let mut limits = BudgetLimits::default();
            limits.staging_bytes = lanes_allowed * 2 * SLOT as u64;
            let options = sixteen().budget(Budget::new(limits));
            let devices: [Arc<dyn Device>; 1] = [Arc::new(gpu())];
            let loaded = checkpoint.load(&devices, &options, &Control::default());
            let report = loaded.unwrap().report().clone();
            assert!(report.threads <= threads, "{}", report.threads);
            // Both slots of each lane.
            let slots = report.threads as u64 * 2;
            assert!(report.peak_staging_bytes >= slots * SLOT as u64);
        }
    });
}

#[test]
fn a_device_that_is_dropped_while_it_starts_leaves_nothing() {
    Fake::new("path::a_device_that_is_dropped_while_it_starts_leaves_nothing").run(|control| {
        control.close_gate("cuDevicePrimaryCtxRetain");
        let device = gpu();
        thread::scope(|scope| {
            let dropped = scope.spawn(move || drop(device));
            control.open_gate();
            dropped.join().unwrap();
        });
        assert!(control.counts().is_clean());
    });
}

/// A device whose groups lie in memory that somebody else holds.
#[derive(Debug)]
struct InPlace {
    device: CudaDevice,
    memory: Arc<CudaSlice<u8>>,
    /// Waited for in place of the memory's stream.
    event: Option<CudaEvent>,
}

impl Device for InPlace {
    fn name(&self) -> String {
        self.device.name()
    }

    fn rules(&self) -> GroupRules {
        self.device.rules()
    }

    #[allow(unsafe_code)]
    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let stream = self.memory.stream();
        let (address, _used) = self.memory.device_ptr(stream);
        let owner = Arc::clone(&self.memory);
        // SAFETY: the slice is as long as it says and lives with its owner; what was enqueued on
        // its stream, or before the event, is waited for, and nobody else uses it before the group is finished.
        let memory = unsafe {
            let memory = CallerMemory::new(address, request.bytes, owner);
            match &self.event {
                Some(event) => memory.after_event(event.cu_event()),
                None => memory.after_stream(stream.cu_stream()),
            }
        };
        Ok(Box::new(self.device.group_in(memory)?))
    }
}

#[test]
fn weights_are_read_again_to_the_same_addresses() {
    Fake::new("path::weights_are_read_again_to_the_same_addresses")
        .set("copy_delay_us", 50)
        .run(|control| {
            let checkpoint = checkpoint(40 * SCALE * SLOT as u64);
            let bytes = checkpoint.shards[0].len();
            let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
            // Work that is still to run when the load begins must not run over it.
            let mut memory = stream.alloc_zeros::<u8>(bytes).unwrap();
            stream.memset_zeros(&mut memory).unwrap();
            let memory = Arc::new(memory);
            let device = gpu();
            let place = InPlace {
                device,
                memory: Arc::clone(&memory),
                event: None,
            };
            let devices: [Arc<dyn Device>; 1] = [Arc::new(place)];
            for _ in 0..2 {
                let options = sixteen();
                let loaded = checkpoint.load(&devices, &options, &Control::default());
                let loaded = loaded.unwrap();
                checkpoint.check(&loaded, 16);
                let group = loaded.tensors()[0].group();
                let buffer = CudaBuffer::of(group.as_ref()).unwrap();
                assert_eq!(buffer.address(), memory.device_ptr(&stream).0);
                drop(loaded);
                // It is nobody's to give away.
                assert!(buffer.into_slice::<u8>(&stream).is_err());
            }
            // Whatever a load that fails has brought, the memory stays and can be filled again.
            for call in ["cuStreamSynchronize", "cuMemcpyHtoDAsync_v2"] {
                control.fail(call, 1, 999);
                let options = sixteen();
                assert!(
                    checkpoint
                        .load(&devices, &options, &Control::default())
                        .is_err()
                );
                control.forget_faults();
                assert_eq!(control.counts().allocations, 1, "{call}");
            }
            let loaded = checkpoint.load(&devices, &sixteen(), &Control::default());
            checkpoint.check(&loaded.unwrap(), 16);
            drop(devices);
            assert_eq!(control.counts().allocations, 1);
            drop(memory);
            stream.synchronize().unwrap();
        });
}

#[test]
fn an_event_of_the_caller_is_waited_for_before_the_group_is_made() {
    Fake::new("path::an_event_of_the_caller_is_waited_for_before_the_group_is_made")
        .set("copy_delay_us", 50)
        .run(|control| {
            let checkpoint = checkpoint(4 * SCALE * SLOT as u64);
            let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
            let mut memory = stream
                .alloc_zeros::<u8>(checkpoint.shards[0].len())
                .unwrap();
            stream.memset_zeros(&mut memory).unwrap();
            let event = stream.record_event(None).unwrap();
            let device = gpu();
            device.report().unwrap();
            let place = InPlace {
                device,
                memory: Arc::new(memory),
                event: Some(event),
            };
            control.forget_log();
            let group = place.allocate(&GroupRequest::new(SLOT)).unwrap();
            let calls = control.log();
            drop(group);
            assert!(calls.iter().any(|call| call.name == "cuEventSynchronize"));
            // Other work on the caller's stream may go on.
            assert!(!calls.iter().any(|call| call.name == "cuStreamSynchronize"));

            let devices: [Arc<dyn Device>; 1] = [Arc::new(place)];
            let loaded = checkpoint.load(&devices, &sixteen(), &Control::default());
            checkpoint.check(&loaded.unwrap(), 16);
        });
}

#[test]
fn a_group_in_the_callers_memory_may_be_dropped_unfinished() {
    Fake::new("path::a_group_in_the_callers_memory_may_be_dropped_unfinished").run(|control| {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let memory = Arc::new(stream.alloc_zeros::<u8>(SLOT).unwrap());
        let place = InPlace {
            device: gpu(),
            memory: Arc::clone(&memory),
            event: None,
        };
        let mut group = place.allocate(&GroupRequest::new(SLOT)).unwrap();
        let Destination::Staged(staging) = group.destination() else {
            panic!("CUDA groups are staged");
        };
        staging
            .lane()
            .unwrap()
            .slot(10)
            .unwrap()
            .copy_from_slice(&noise(10, 1));
        drop((group, place));
        assert_eq!(control.counts().allocations, 1);
        drop(memory);
        stream.synchronize().unwrap();
    });
}
