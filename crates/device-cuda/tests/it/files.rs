//! Files that the device reads itself, over a double of cuFile.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

use tensorlift_device::{
    CopyRun, Destination, Device, DeviceError, GroupRequest, Pull, Pulled, Staging,
};
use tensorlift_device_cuda::{CudaDevice, Gds, GdsReport};
use tensorlift_fake_cuda::harness::{Control, Fake};

use crate::drive::{Chunk, Manner, agrees, buffer, expected, fill, noise, options, straight};

/// An unnamed file with these bytes, on a file system with direct reads.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let own = std::env::current_exe().unwrap();
    let mut file = tempfile::tempfile_in(own.parent().unwrap()).unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(gds: Gds) -> CudaDevice {
    options(0).gds(gds).build().unwrap()
}

/// Loads a file and returns what became of its chunks.
pub(crate) fn pull_all(
    control: &Control,
    device: &CudaDevice,
    file: &File,
    source: &[u8],
) -> Result<(usize, BTreeSet<String>), DeviceError> {
    let request = GroupRequest::new(source.len());
    let mut group = device.allocate(&request)?;
    let Destination::Staged(staging) = group.destination() else {
        panic!("CUDA groups are staged");
    };
    let (mut pulled, mut reasons) = (0, BTreeSet::new());
    for chunk in straight(source.len(), 8192) {
        match pull(staging, file, &chunk)? {
            Pulled::Refused(reason) => {
                reasons.insert(reason.into_owned());
                let mut lane = staging.lane()?;
                let bytes = &source[chunk.offset..][..chunk.len];
                lane.slot(chunk.len)?.copy_from_slice(bytes);
                lane.copy(&chunk.runs)?;
            }
            _ => pulled += 1,
        }
    }
    group.finish()?;
    let counts = control.counts();
    assert_eq!(
        (counts.files, counts.buffers),
        (0, 0),
        "closed when finished"
    );
    assert!(buffer(group.as_ref()).to_host()? == source, "wrong bytes");
    Ok((pulled, reasons))
}

fn pull(staging: &dyn Staging, file: &File, chunk: &Chunk) -> Result<Pulled, DeviceError> {
    let pull = Pull::new(file, chunk.offset as u64, chunk.len, &chunk.runs);
    staging.pull(&pull)
}

/// A file of ten chunks, the last of which is ragged.
fn source() -> Vec<u8> {
    noise(8192 * 9 + 77, 1)
}

/// Runs with settings; how many chunks were pulled, and the one reason why others were not.
fn outcome(control: &Control, gds: Gds, settings: &[(&str, u64)]) -> (usize, String) {
    for (name, value) in settings {
        control.set(name, *value);
    }
    let source = source();
    let file = file_of(&source);
    let (pulled, reasons) = pull_all(control, &open(gds), &file, &source).unwrap();
    assert!(reasons.len() <= 1, "one reason for one file: {reasons:?}");
    control.assert_clean();
    for (name, _) in settings {
        let usual = if *name == "cufile_storages" {
            1 << 4
        } else {
            0
        };
        control.set(name, usual);
    }
    (pulled, reasons.into_iter().next().unwrap_or_default())
}

#[test]
fn cufile_is_asked_only_where_it_can_pay() {
    Fake::new("files::cufile_is_asked_only_where_it_can_pay")
        .with_cufile()
        .run(|control| {
            // A group of less than 4 GiB, whatever the system has.
            let device = open(Gds::Auto);
            let source = source();
            let (pulled, reasons) = pull_all(control, &device, &file_of(&source), &source).unwrap();
            assert_eq!(pulled, 0);
            assert!(
                reasons.iter().all(|why| why.contains("too small")),
                "{reasons:?}"
            );
            assert_eq!(device.report().unwrap().gds, GdsReport::NotAsked);
            drop(device);
            let (pulled, reason) = outcome(control, Gds::Off, &[]);
            assert_eq!((pulled, &*reason), (0, "switched off"));
            let calls = control.calls();
            assert!(
                calls.keys().all(|call| !call.starts_with("cuFile")),
                "{calls:?}"
            );
        });
}

#[test]
fn the_device_reads_files_that_prove_good() {
    Fake::new("files::the_device_reads_files_that_prove_good")
        .with_cufile()
        .run(|control| {
            assert_eq!(outcome(control, Gds::On, &[]), (10, String::new()));
            let calls = control.calls();
            assert_eq!(calls["cuFileRead"], 10);
            // Nothing came through the host but what was compared: no upload.
            assert!(!calls.contains_key("cuMemcpyHtoDAsync_v2"));
            assert_eq!(calls["cuMemcpyDtoHAsync_v2"], 2 + 1);
            // Reads may come in pieces.
            let pieces = outcome(control, Gds::On, &[("cufile_most", 1000)]);
            assert_eq!(pieces, (10, String::new()));
        });
}

#[test]
fn runs_at_any_alignment_land_where_they_should() {
    Fake::new("files::runs_at_any_alignment_land_where_they_should")
        .with_cufile()
        .run(|control| {
            let source = noise(30_000, 2);
            let file = file_of(&source);
            let device = open(Gds::On);
            let mut to = 3;
            let mut chunk = |offset, len, pieces: usize| {
                let piece = len / pieces;
                let runs = (0..pieces).map(|i| {
                    let run = CopyRun {
                        from: i * piece,
                        to,
                        len: piece - i % 2,
                    };
                    to += piece + 5;
                    run
                });
                Chunk {
                    offset,
                    len,
                    runs: runs.collect(),
                }
            };
            let chunks = [
                chunk(1, 8192, 1),
                chunk(4095, 2, 1),
                chunk(8191, 8000, 7),
                chunk(20_000, 4096, 40),
                chunk(29_990, 10, 3),
            ];
            let manner = Manner {
                file: Some(&file),
                ..Manner::default()
            };
            let group = fill(&device, &source, &chunks, to, manner).unwrap();
            let found = buffer(group.as_ref()).to_host().unwrap();
            assert!(agrees(&found, &expected(&source, &chunks, to)));
            assert_eq!(control.calls()["cuFileRead"], 5);
        });
}

#[test]
fn a_probe_that_says_yes_may_fail_later() {
    Fake::new("files::a_probe_that_says_yes_may_fail_later")
        .with_cufile()
        .run(|control| {
            // `CU_FILE_IO_NOT_SUPPORTED` after reads that went well.
            for good in [0, 1, 2, 3, 9] {
                control.set(
                    "cufile_good_reads",
                    control.calls().get("cuFileRead").unwrap_or(&0) + good,
                );
                let (pulled, reason) = outcome(control, Gds::On, &[("cufile_read_error", 5008)]);
                assert_eq!(pulled as u64, good);
                assert!(reason.contains("cuFileRead returned 5008"), "{reason}");
            }
        });
}

#[test]
fn wrong_bytes_are_seen_in_the_first_reads() {
    Fake::new("files::wrong_bytes_are_seen_in_the_first_reads")
        .with_cufile()
        .run(|control| {
            for good in [0, 1] {
                let wrong_from = control.calls().get("cuFileRead").unwrap_or(&0) + good + 1;
                let settings = [("cufile_wrong_from", wrong_from)];
                let (pulled, reason) = outcome(control, Gds::On, &settings);
                assert_eq!(pulled as u64, good);
                assert!(reason.contains("other bytes than the file has"), "{reason}");
            }
        });
}

#[test]
fn refusals_are_reasons_and_no_failures() {
    Fake::new("files::refusals_are_reasons_and_no_failures")
        .with_cufile()
        .run(|control| {
            let refused = |settings: &[_], expected: &str| {
                let (pulled, reason) = outcome(control, Gds::On, settings);
                assert_eq!(pulled, 0);
                assert!(reason.contains(expected), "{reason}");
            };
            // `CU_FILE_DRIVER_NOT_INITIALIZED`.
            let error = [("cufile_open_error", 5001)];
            refused(&error, "cuFileDriverOpen returned 5001");
            let (pulled, _) = outcome(control, Gds::On, &[("cufile_storages", 0)]);
            assert_eq!(pulled, 10);
            let error = [("cufile_register_error", 5008)];
            refused(&error, "cuFileHandleRegister returned 5008");
            // No device memory for the reads: the load needs what there is.
            control.set("memory", source().len() as u64);
            refused(&[], "CUDA_ERROR_OUT_OF_MEMORY");
        });
}

#[test]
fn no_library_is_a_reason() {
    Fake::new("files::no_library_is_a_reason").run(|control| {
        let (pulled, reason) = outcome(control, Gds::On, &[]);
        assert_eq!(pulled, 0);
        assert!(reason.contains("not installed"), "{reason}");
        let device = open(Gds::On);
        let source = source();
        pull_all(control, &device, &file_of(&source), &source).unwrap();
        let report = device.report().unwrap().to_string();
        assert!(
            report.contains("no GPUDirect Storage: the cuFile library"),
            "{report}"
        );
    });
}

#[test]
fn a_file_that_became_shorter_is_no_device_failure() {
    Fake::new("files::a_file_that_became_shorter_is_no_device_failure")
        .with_cufile()
        .run(|control| {
            let source = noise(20_000, 3);
            let file = file_of(&source);
            file.set_len(10_000).unwrap();
            let (pulled, reasons) = pull_all(control, &open(Gds::On), &file, &source).unwrap();
            assert_eq!(pulled, 1);
            let reason = reasons.into_iter().next().unwrap();
            assert!(reason.contains("early"), "{reason}");
        });
}

#[test]
fn a_pull_that_leaves_its_ends_is_misuse() {
    Fake::new("files::a_pull_that_leaves_its_ends_is_misuse")
        .with_cufile()
        .run(|_| {
            let source = noise(8192, 4);
            let file = file_of(&source);
            let device = open(Gds::On);
            let request = GroupRequest::new(100);
            let mut group = device.allocate(&request).unwrap();
            let Destination::Staged(staging) = group.destination() else {
                panic!("CUDA groups are staged");
            };
            for (from, to, len) in [(0, 0, 101), (50, 0, 51), (0, usize::MAX, 1)] {
                let chunk = Chunk {
                    offset: 0,
                    len: 100,
                    runs: vec![CopyRun { from, to, len }],
                };
                assert!(pull(staging, &file, &chunk).is_err());
            }
            // Larger than any slot: refused, as the loader would be by a lane.
            let chunk = Chunk {
                offset: 0,
                len: 8193,
                runs: vec![],
            };
            let refused = pull(staging, &file, &chunk).unwrap();
            assert!(matches!(refused, Pulled::Refused(_)));
        });
}
