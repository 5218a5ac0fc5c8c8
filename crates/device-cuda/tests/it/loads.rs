//! Bytes arrive as they were, whatever the plan.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tensorlift_device::{CopyRun, Destination, Device, DeviceError, GroupRequest, conformance};
use tensorlift_device_cuda::CudaDevice;
use tensorlift_fake_cuda::harness::Fake;

use crate::drive::{
    Chunk, Manner, agrees, buffer, expected, fill, noise, options, round_trip, straight,
};

#[test]
fn the_device_conforms() {
    Fake::new("loads::the_device_conforms")
        .set("copy_delay_us", 50)
        .run(|control| {
            for (lanes, bytes) in [(1, 4096), (2, 8192), (8, 65_536)] {
                let options = CudaDevice::options(0).lanes(lanes).slot_bytes(bytes);
                let device = options.build().unwrap();
                conformance::check(&device, |group| buffer(group).to_host().unwrap());
            }
            assert_eq!(control.counts().pageable_copies, 0);
        });
}

/// A source, and chunks whose runs do not meet in the group.
#[derive(Clone, Debug)]
struct Plan {
    source: usize,
    group: usize,
    chunks: Vec<Chunk>,
}

/// Gaps in the file and in the group, at any alignment: what selections and misaligned tensors
/// make of a plan.
fn plans() -> impl Strategy<Value = Plan> {
    let run = (0usize..40, 1usize..700, 0usize..40);
    let chunk = prop::collection::vec(run, 1..24);
    prop::collection::vec(chunk, 1..16).prop_map(|chunks| {
        let (mut source, mut group) = (0, 0);
        let mut made = Vec::new();
        for runs in chunks {
            let offset = source;
            let mut laid = Vec::new();
            for (skipped, len, gap) in runs {
                if source + skipped + len - offset > 8192 {
                    break;
                }
                source += skipped;
                let (from, to) = (source - offset, group + gap);
                laid.push(CopyRun { from, to, len });
                source += len;
                group = to + len;
            }
            made.push(Chunk {
                offset,
                len: source - offset,
                runs: laid,
            });
        }
        Plan {
            source,
            group,
            chunks: made,
        }
    })
}

#[test]
fn any_plan_moves_the_right_bytes() {
    Fake::new("loads::any_plan_moves_the_right_bytes")
        .set("copy_delay_us", 30)
        .run(|control| {
            let mut runner = TestRunner::new(Config {
                cases: 150,
                failure_persistence: None,
                ..Config::default()
            });
            let choice = (plans(), 1usize..4, 1usize..4);
            runner
                .run(&choice, |(plan, lanes, threads)| {
                    let device = options(0).lanes(lanes).build().unwrap();
                    let source = noise(plan.source, 4);
                    let manner = Manner {
                        threads,
                        ..Manner::default()
                    };
                    let group = fill(&device, &source, &plan.chunks, plan.group, manner).unwrap();
                    let found = buffer(group.as_ref()).to_host().unwrap();
                    let wanted = expected(&source, &plan.chunks, plan.group);
                    prop_assert!(agrees(&found, &wanted));
                    drop((group, device));
                    prop_assert!(control.counts().is_clean(), "{:?}", control.counts());
                    Ok(())
                })
                .unwrap();
            let calls = control.calls();
            // Both ways were taken, and no copy came out of memory that is not pinned.
            for call in ["cuMemcpyHtoDAsync_v2", "cuMemcpyBatchAsync_v2"] {
                assert!(calls[call] > 0, "{call}");
            }
            assert_eq!(control.counts().pageable_copies, 0);
        });
}

#[test]
fn many_loads_share_the_lanes_of_a_device() {
    Fake::new("loads::many_loads_share_the_lanes_of_a_device")
        .set("copy_delay_us", 100)
        .set("devices", 2)
        .run(|_| {
            let devices = [0, 1].map(|ordinal| options(ordinal).build().unwrap());
            std::thread::scope(|scope| {
                for seed in 0..6 {
                    let device = &devices[seed % 2];
                    scope.spawn(move || {
                        let source = noise(90_000 + seed * 17, seed as u64);
                        assert!(round_trip(device, &source).unwrap() == source);
                    });
                }
            });
        });
}

#[test]
fn a_batch_that_the_driver_refuses_goes_one_by_one() {
    Fake::new("loads::a_batch_that_the_driver_refuses_goes_one_by_one")
        .set("batch", 0)
        .run(|control| {
            let device = options(0).build().unwrap();
            assert!(device.report().unwrap().batched_copies);
            let source = noise(8000, 5);
            let runs = (0..100).map(|i| CopyRun {
                from: i * 80,
                to: (99 - i) * 80,
                len: 80,
            });
            let runs: Vec<_> = runs.collect();
            let chunk = Chunk {
                offset: 0,
                len: 8000,
                runs,
            };
            let chunks = [chunk.clone(), chunk];
            let manner = Manner {
                threads: 1,
                ..Manner::default()
            };
            let group = fill(&device, &source, &chunks, 8000, manner).unwrap();
            let found = buffer(group.as_ref()).to_host().unwrap();
            assert!(agrees(&found, &expected(&source, &chunks, 8000)));
            // It is asked once.
            assert_eq!(control.calls()["cuMemcpyBatchAsync_v2"], 1);
            assert_eq!(control.calls()["cuMemcpyHtoDAsync_v2"], 200);
            assert!(!device.report().unwrap().batched_copies);
        });
}

#[test]
fn an_older_driver_has_the_older_batch() {
    Fake::new("loads::an_older_driver_has_the_older_batch")
        .lacking("cuMemcpyBatchAsync_v2")
        .run(|control| {
            let device = options(0).build().unwrap();
            let source = noise(8000, 6);
            let runs = (0..10).map(|i| CopyRun {
                from: i * 800,
                to: i * 800,
                len: 800,
            });
            let chunk = Chunk {
                offset: 0,
                len: 8000,
                runs: runs.collect(),
            };
            let group = fill(&device, &source, &[chunk], 8000, Manner::default()).unwrap();
            assert!(buffer(group.as_ref()).to_host().unwrap() == source);
            assert_eq!(control.calls()["cuMemcpyBatchAsync"], 1);
        });
}

#[test]
fn misuse_is_a_typed_error_and_takes_no_slot_along() {
    Fake::new("loads::misuse_is_a_typed_error_and_takes_no_slot_along").run(|_| {
        let device = options(0).build().unwrap();
        let request = GroupRequest::new(1000);
        let mut group = device.allocate(&request).unwrap();
        let Destination::Staged(staging) = group.destination() else {
            panic!("CUDA groups are staged");
        };
        let run = |from, to, len| CopyRun { from, to, len };
        let outside = [
            run(0, 0, 101),
            run(100, 0, 1),
            run(0, 1000, 1),
            run(0, 950, 51),
            run(usize::MAX, 0, 2),
            run(0, usize::MAX, 2),
            run(1, 1, usize::MAX),
        ];
        let mut lane = staging.lane().unwrap();
        // More often than there are slots.
        for run in outside {
            lane.slot(100).unwrap().fill(1);
            let error = lane.copy(&[run]).unwrap_err();
            assert!(matches!(error, DeviceError::Failed { .. }), "{error}");
        }
        match lane.slot(8193) {
            Err(DeviceError::StagingTooSmall { needed, found, .. }) => {
                assert_eq!((needed, found), (8193, 8192));
            }
            Ok(_) => panic!("no such slot"),
            Err(other) => panic!("{other}"),
        }
        drop(lane);
        group.finish().unwrap();
        group.finish().unwrap();
        let Destination::Staged(staging) = group.destination() else {
            panic!("CUDA groups are staged");
        };
        assert!(staging.lane().is_err());
        assert_eq!((staging.lanes(), staging.slot_bytes()), (0, 0));
        let memory = buffer(group.as_ref());
        assert!(memory.read(999, &mut [0; 2]).is_err());
        assert!(memory.read(1000, &mut []).is_ok());
        assert!(memory.read(1001, &mut []).is_err());
    });
}

#[test]
fn empty_groups_take_no_device_memory() {
    Fake::new("loads::empty_groups_take_no_device_memory").run(|control| {
        let device = options(0).build().unwrap();
        let group = fill(&device, &[], &[], 0, Manner::default()).unwrap();
        assert_eq!(control.counts().allocations, 0);
        assert_eq!(group.as_host(), Some([].as_slice()));
        assert_eq!(buffer(group.as_ref()).to_host().unwrap(), [0u8; 0]);
        assert!(buffer(group.as_ref()).is_empty());
    });
}

#[test]
fn tensors_do_not_hold_the_ring() {
    Fake::new("loads::tensors_do_not_hold_the_ring").run(|control| {
        let device = options(0).build().unwrap();
        let source = noise(20_000, 7);
        let chunks = straight(source.len(), 8192);
        let group = fill(&device, &source, &chunks, source.len(), Manner::default()).unwrap();
        let memory = buffer(group.as_ref());
        drop((device, group));
        assert_eq!(control.counts().pinned_ranges, 0);
        assert_eq!(control.counts().allocations, 1);
        assert!(memory.to_host().unwrap() == source);
    });
}
