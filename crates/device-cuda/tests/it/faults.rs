//! Whatever fails, and wherever a load stops, nothing is left and nobody hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tensorlift_device::{CopyRun, Destination, Device, DeviceError, GroupRequest};
use tensorlift_device_cuda::{CudaOptions, Gds};
use tensorlift_fake_cuda::harness::{Control, Fake};

use crate::drive::{Chunk, Manner, buffer, fill, noise, options, straight};

/// `CUDA_ERROR_LAUNCH_FAILED`: after it the context is lost.
const LAUNCH_FAILED: u32 = 719;
/// `CUDA_ERROR_UNKNOWN`.
const UNKNOWN: u32 = 999;

/// A load that makes every call that loads make: single and batched copies, several groups.
fn load(
    control: &Control,
    file: Option<&std::fs::File>,
    options: CudaOptions,
) -> Result<(), DeviceError> {
    let source = noise(40_000, 1);
    let device = options.build()?;
    let mut chunks = straight(source.len(), 8192);
    chunks[1] = in_pieces(&chunks[1]);
    let manner = Manner {
        file,
        ..Manner::default()
    };
    let groups = [0, 1].map(|_| fill(&device, &source, &chunks, source.len(), manner));
    for group in groups {
        let found = buffer(group?.as_ref()).to_host()?;
        assert!(found == source, "wrong bytes without an error");
    }
    assert_eq!(control.violations(), "");
    Ok(())
}

fn in_pieces(chunk: &Chunk) -> Chunk {
    let pieces = chunk.runs.iter().flat_map(|run| {
        let starts = (0..run.len).step_by(500);
        starts.map(|start| CopyRun {
            from: run.from + start,
            to: run.to + start,
            len: 500.min(run.len - start),
        })
    });
    Chunk {
        runs: pieces.collect(),
        ..*chunk
    }
}

/// Lets every call fail at every number that a load reaches, once without and once with the loss
/// of the device.
fn fail_everywhere(control: &Control, file: Option<&std::fs::File>, options: &CudaOptions) {
    let load = || load(control, file, options.clone());
    load().unwrap();
    let before = control.calls();
    load().unwrap();
    let after = control.calls();
    let mut failed = 0;
    for (call, count) in &after {
        let made = count - before.get(call).unwrap_or(&0);
        for number in 1..=made {
            for loses in [false, true] {
                match loses {
                    false => control.fail(call, number, UNKNOWN),
                    true => control.lose_device_at(call, number, LAUNCH_FAILED),
                }
                let result = catch_unwind(AssertUnwindSafe(load));
                control.forget_faults();
                let place = format!("{call} number {number}, loses: {loses}");
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        failed += 1;
                        assert!(!error.to_string().is_empty());
                    }
                    Err(_) => panic!("panic at {place}"),
                }
                let counts = control.counts();
                let seen = control.violations();
                assert!(counts.is_clean(), "{place}: {counts:?} {seen}");
            }
        }
    }
    // Most calls matter.
    assert!(failed > 50, "only {failed} failures were noticed");
    // All is well again afterwards.
    load().unwrap();
}

#[test]
fn every_call_may_fail_at_every_number() {
    Fake::new("faults::every_call_may_fail_at_every_number")
        .set("copy_delay_us", 20)
        .run(|control| fail_everywhere(control, None, &options(0).gds(Gds::Off)));
}

#[test]
fn every_call_may_fail_without_batches_and_registration() {
    Fake::new("faults::every_call_may_fail_without_batches_and_registration")
        .set("host_register", 0)
        .set("batch", 0)
        .run(|control| fail_everywhere(control, None, &options(0).gds(Gds::Off)));
}

#[test]
fn every_call_may_fail_where_the_device_reads_files() {
    Fake::new("faults::every_call_may_fail_where_the_device_reads_files")
        .with_cufile()
        .run(|control| {
            let file = crate::files::file_of(&noise(40_000, 1));
            fail_everywhere(control, Some(&file), &options(0).gds(Gds::On));
        });
}

#[test]
fn a_load_may_stop_at_every_chunk() {
    Fake::new("faults::a_load_may_stop_at_every_chunk")
        .set("copy_delay_us", 200)
        .run(|control| {
            let device = options(0).build().unwrap();
            let source = noise(90_000, 2);
            let chunks = straight(source.len(), 8192);
            for stop_at in 0..=chunks.len() {
                let manner = Manner {
                    stop_at,
                    ..Manner::default()
                };
                let group = fill(&device, &source, &chunks, source.len(), manner).unwrap();
                // Dropped with copies under way.
                drop(group);
                let counts = control.counts();
                assert_eq!(counts.allocations, 0, "at {stop_at}");
                assert_eq!(control.violations(), "");
            }
            // Every lane came back.
            let group = fill(&device, &source, &chunks, source.len(), Manner::default());
            assert!(buffer(group.unwrap().as_ref()).to_host().unwrap() == source);
        });
}

#[test]
fn a_thread_may_panic_with_a_lane_in_its_hands() {
    Fake::new("faults::a_thread_may_panic_with_a_lane_in_its_hands")
        .set("copy_delay_us", 200)
        .run(|control| {
            let device = options(0).build().unwrap();
            let request = GroupRequest::new(8192);
            // More often than there are lanes.
            for _ in 0..5 {
                let mut group = device.allocate(&request).unwrap();
                let Destination::Staged(staging) = group.destination() else {
                    panic!("CUDA groups are staged");
                };
                let panicked = thread::scope(|scope| {
                    let reader = scope.spawn(|| {
                        let run = CopyRun {
                            from: 0,
                            to: 0,
                            len: 8192,
                        };
                        let mut lane = staging.lane().unwrap();
                        lane.slot(8192).unwrap();
                        lane.copy(&[run]).unwrap();
                        lane.slot(8192).unwrap();
                        std::panic::resume_unwind(Box::new("a panic of the reader"));
                    });
                    reader.join().is_err()
                });
                assert!(panicked);
                drop(group);
                assert_eq!(control.counts().allocations, 0);
            }
        });
}

#[test]
fn a_lost_device_is_told_by_its_code() {
    Fake::new("faults::a_lost_device_is_told_by_its_code").run(|control| {
        control.lose_device_at("cuMemcpyHtoDAsync_v2", 2, LAUNCH_FAILED);
        match load(control, None, options(0).gds(Gds::Off)) {
            Err(DeviceError::Failed { device, source, .. }) => {
                assert_eq!(device, "cuda:0");
                let call = source
                    .downcast::<tensorlift_device_cuda::CallError>()
                    .unwrap();
                assert_eq!(call.code(), LAUNCH_FAILED);
                assert!(
                    call.to_string().contains("CUDA_ERROR_LAUNCH_FAILED"),
                    "{call}"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_failure_of_one_load_is_not_anothers() {
    Fake::new("faults::a_failure_of_one_load_is_not_anothers")
        .set("copy_delay_us", 2000)
        .run(|control| {
            let device = options(0).build().unwrap();
            let source = noise(8192, 3);
            let chunks = straight(source.len(), 8192);
            let manner = Manner {
                threads: 1,
                // Left unfinished.
                stop_at: 1,
                ..Manner::default()
            };
            // The wait for the first copy fails, and so do the ways around it.
            control.fail("cuEventSynchronize", 1, UNKNOWN);
            control.fail("cuStreamSynchronize", 1, UNKNOWN);
            control.fail("cuCtxSynchronize", 1, UNKNOWN);
            let mut unlucky = fill(&device, &source, &chunks, source.len(), manner).unwrap();
            let error = unlucky.finish().unwrap_err();
            assert!(error.to_string().contains("copy to the device"), "{error}");
            drop(unlucky);
            let lucky = fill(&device, &source, &chunks, source.len(), Manner::default());
            assert!(buffer(lucky.unwrap().as_ref()).to_host().unwrap() == source);
        });
}
