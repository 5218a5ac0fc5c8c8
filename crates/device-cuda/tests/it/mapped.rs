//! Files in the page cache, copied from pinned pieces of their mapping.

use std::collections::BTreeSet;
use std::fs::File;

use tensorlift_device_cuda::{Cached, CudaDevice, Gds};
use tensorlift_fake_cuda::harness::{Control, Fake};

use crate::drive::{noise, options};
use crate::files::{file_of, pull_all};

fn open(cached: Cached) -> CudaDevice {
    options(0).gds(Gds::Off).cached(cached).build().unwrap()
}

/// How many chunks came from the mapping, and why others did not; the bytes are checked.
fn outcome(
    control: &Control,
    device: &CudaDevice,
    file: &File,
    source: &[u8],
) -> (usize, BTreeSet<String>) {
    let outcome = pull_all(control, device, file, source).unwrap();
    assert_eq!(control.violations(), "");
    assert_eq!(control.counts().pageable_copies, 0);
    outcome
}

/// 40 chunks, the last of which is ragged.
fn source() -> Vec<u8> {
    noise(8192 * 39 + 77, 1)
}

#[test]
fn a_mapping_that_is_asked_for_brings_every_chunk() {
    Fake::new("mapped::a_mapping_that_is_asked_for_brings_every_chunk")
        .set("copy_delay_us", 50)
        .run(|control| {
            let source = source();
            let device = open(Cached::Mapped);
            let registered = control.calls()["cuMemHostRegister_v2"];
            let found = outcome(control, &device, &file_of(&source), &source);
            assert_eq!(found, (40, BTreeSet::new()));
            let calls = control.calls();
            assert_eq!(calls["cuMemHostRegister_v2"] - registered, 40);
            assert_eq!(calls["cuMemHostUnregister"], 40);
        });
}

#[test]
fn the_first_chunks_come_by_both_ways_and_the_rest_by_one() {
    Fake::new("mapped::the_first_chunks_come_by_both_ways_and_the_rest_by_one").run(|control| {
        let source = source();
        let file = file_of(&source);
        let device = open(Cached::Auto);
        // One thread: the ways take turns, four chunks each.
        let (mapped, reasons) = outcome(control, &device, &file, &source);
        assert!([4, 36].contains(&mapped), "{mapped} {reasons:?}");
        assert!(reasons.iter().any(|why| why.contains("every other chunk")));
        let slower = reasons.iter().any(|why| why.contains("through the ring"));
        assert_eq!(slower, mapped == 4, "{reasons:?}");
        // The device remembers.
        let (again, _) = outcome(control, &device, &file, &source);
        assert_eq!(again, if mapped == 4 { 0 } else { 40 });
    });
}

#[test]
fn small_files_and_forced_rings_are_not_mapped() {
    Fake::new("mapped::small_files_and_forced_rings_are_not_mapped").run(|control| {
        let small = &source()[..8192 * 3];
        let (mapped, reasons) = outcome(control, &open(Cached::Auto), &file_of(small), small);
        assert_eq!(mapped, 0);
        assert!(
            reasons.iter().any(|why| why.contains("too small")),
            "{reasons:?}"
        );
        let (mapped, _) = outcome(control, &open(Cached::Ring), &file_of(small), small);
        assert_eq!(mapped, 0);
    });
}

#[test]
fn a_driver_that_pins_no_read_only_memory_is_not_asked() {
    Fake::new("mapped::a_driver_that_pins_no_read_only_memory_is_not_asked")
        .set("read_only_register", 0)
        .run(|control| {
            let device = open(Cached::Mapped);
            let registered = control.calls()["cuMemHostRegister_v2"];
            let source = source();
            let (mapped, _) = outcome(control, &device, &file_of(&source), &source);
            assert_eq!(mapped, 0);
            assert_eq!(control.calls()["cuMemHostRegister_v2"], registered);
        });
}

#[test]
fn a_piece_that_cannot_be_pinned_leaves_the_rest_to_the_ring() {
    Fake::new("mapped::a_piece_that_cannot_be_pinned_leaves_the_rest_to_the_ring").run(|control| {
        let source = source();
        for nth in [1, 5, 40] {
            let device = open(Cached::Mapped);
            // `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED`.
            control.fail("cuMemHostRegister_v2", nth, 712);
            let (mapped, reasons) = outcome(control, &device, &file_of(&source), &source);
            assert_eq!(mapped as u64, nth - 1);
            assert!(
                reasons
                    .iter()
                    .all(|why| why.contains("cuMemHostRegister returned 712"))
            );
            assert_eq!(reasons.len(), 1);
        }
    });
}

#[test]
fn a_file_that_became_shorter_is_read_and_not_mapped_beyond_its_end() {
    Fake::new("mapped::a_file_that_became_shorter_is_read_and_not_mapped_beyond_its_end").run(
        |control| {
            let source = source();
            let file = file_of(&source);
            file.set_len(8192 * 10).unwrap();
            let (mapped, reasons) = outcome(control, &open(Cached::Mapped), &file, &source);
            assert_eq!(mapped, 10);
            assert!(
                reasons.iter().any(|why| why.contains("ends at byte 81920")),
                "{reasons:?}"
            );
        },
    );
}
