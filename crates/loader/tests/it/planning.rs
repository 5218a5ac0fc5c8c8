//! Plans, tested by value.

use std::sync::Arc;

use proptest::prelude::*;
use tensorlift_device::GroupRules;
use tensorlift_loader::{GroupMemory, LoadOptions, Mode, Plan, SegmentSource, Shard, plan};
use tensorlift_storage::MemoryStorage;
use tensorlift_storage::wrap::Counted;
use tensorlift_tensor_meta::{
    Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, Source, View,
};

use super::{Sample, pattern, samples};

/// A shard whose entries, of U8 unless said otherwise, have these offsets and lengths.
fn catalog(extents: &[(u64, usize)], dtype: Dtype) -> Catalog {
    let mut builder = Catalog::builder();
    for (index, &(offset, elements)) in extents.iter().enumerate() {
        let layout = Layout::contiguous([elements]).unwrap();
        let len = layout.span_bytes(dtype).unwrap();
        let record = Record::stored(Extent::new(ShardId::FIRST, offset, len));
        let record = builder.record(record).unwrap();
        builder
            .entry(format!("t{index}"), dtype, layout, View::whole(record))
            .unwrap();
    }
    builder.finish()
}

fn plan_all(catalog: &Catalog, merge_gap_bytes: u64) -> Plan {
    let options = LoadOptions::default().merge_gap_bytes(merge_gap_bytes);
    plan(catalog, |_| Some(0), &[GroupRules::default()], &options).unwrap()
}

/// Where the segments lie in the shard.
fn extents(plan: &Plan) -> Vec<(u64, u64)> {
    let extents = plan
        .segments
        .iter()
        .filter_map(tensorlift_loader::Segment::extent);
    let mut extents: Vec<_> = extents.map(|extent| (extent.offset, extent.len)).collect();
    extents.sort_unstable();
    extents
}

#[test]
fn neighbours_are_one_read_and_keep_their_distances() {
    let catalog = catalog(&[(100, 50), (150, 30), (200, 10)], Dtype::U8);
    let plan = plan_all(&catalog, 20);
    assert_eq!(extents(&plan), [(100, 110)]);
    let first = plan.places[0].offset;
    assert_eq!(plan.places[1].offset, first + 50);
    assert_eq!(plan.places[2].offset, first + 100);
    assert_eq!((plan.bytes_wanted, plan.bytes_to_read), (90, 110));
}

#[test]
fn gaps_are_read_along_only_where_that_pays() {
    let far = catalog(&[(0, 10_000), (30_000, 10_000)], Dtype::U8);
    assert_eq!(extents(&plan_all(&far, 64 << 10)), [(0, 40_000)]);
    assert_eq!(
        extents(&plan_all(&far, 1000)),
        [(0, 10_000), (30_000, 10_000)]
    );
    // More waste than use.
    let small = catalog(&[(0, 100), (30_000, 100)], Dtype::U8);
    assert_eq!(
        extents(&plan_all(&small, 64 << 10)),
        [(0, 100), (30_000, 100)]
    );
}

#[test]
fn many_gaps_never_add_up_to_more_than_the_use() {
    let tiny = (1..=1000).map(|index| ((64 << 10) + index * 60_000, 8));
    let extents: Vec<_> = [(0, 64 << 10)].into_iter().chain(tiny).collect();
    let plan = plan_all(&catalog(&extents, Dtype::U8), 64 << 10);
    assert!(plan.bytes_to_read <= 2 * plan.bytes_wanted, "{plan}");
    // One gap is paid for by the large tensor, and no other.
    assert_eq!(plan.segments.len(), 1000);
}

#[test]
fn bytes_that_are_wanted_twice_pay_once() {
    let extents = [(0, 9000), (0, 9000), (0, 9000), (29_000, 100)];
    let plan = plan_all(&catalog(&extents, Dtype::U8), 64 << 10);
    assert_eq!(plan.bytes_to_read, 9100);
}

/// The plan of the entries for which `wanted` holds, by position.
fn plan_some(catalog: &Catalog, merge_gap_bytes: u64, wanted: impl Fn(usize) -> bool) -> Plan {
    let options = LoadOptions::default().merge_gap_bytes(merge_gap_bytes);
    let select = |entry: &tensorlift_tensor_meta::Entry| {
        let position = entry.name()[1..].parse().unwrap();
        wanted(position).then_some(0)
    };
    plan(catalog, select, &[GroupRules::default()], &options).unwrap()
}

/// What a selection may read: twice what it wants, and a page for each gap.
fn most_bytes(plan: &Plan) -> u64 {
    2 * plan.bytes_wanted + 4096 * plan.places.len().saturating_sub(1) as u64
}

#[test]
fn a_selection_of_every_nth_reads_what_pays_off() {
    let gap = LoadOptions::default().merge_gap_bytes;
    for bytes in [8, 1000, 5000, 60_000, 100_000] {
        let extents: Vec<_> = (0..1000)
            .map(|index| (index * bytes, bytes as usize))
            .collect();
        let catalog = catalog(&extents, Dtype::U8);
        for nth in [2, 3, 10, 100] {
            let plan = plan_some(&catalog, gap, |index| index.is_multiple_of(nth));
            let places = 1000_usize.div_ceil(nth);
            assert_eq!(plan.places.len(), places);
            let between = bytes * (nth as u64 - 1);
            // As much waste as use pays, a page is free, and all else is left out.
            if between <= 4096 || (between <= bytes && between <= gap) {
                assert_eq!(plan.segments.len(), 1, "every {nth}th of {bytes} bytes");
            } else if between > gap || between > 2 * bytes {
                assert_eq!(
                    plan.segments.len(),
                    places,
                    "every {nth}th of {bytes} bytes"
                );
                assert_eq!(plan.bytes_to_read, plan.bytes_wanted);
            }
            assert!(plan.bytes_to_read <= most_bytes(&plan));
        }
    }
}

#[test]
fn twenty_thousand_neighbours_are_one_segment() {
    let extents: Vec<_> = (0..20_000).map(|index| (64 + index * 2048, 512)).collect();
    let plan = plan_all(&catalog(&extents, Dtype::F32), 0);
    assert_eq!((plan.segments.len(), plan.groups.len()), (1, 1));
    assert!(plan.groups[0].bytes <= 20_000 * 2048 + 4096);
}

#[test]
fn large_segments_land_where_direct_reads_can() {
    let plan = plan_all(&catalog(&[(1288, 1 << 20)], Dtype::F32), 0);
    let [segment] = &plan.segments[..] else {
        panic!("{plan}")
    };
    assert_eq!(segment.to % 4096, 1288);
}

#[test]
fn a_shard_that_is_misaligned_as_a_whole_is_still_one_read() {
    let plan = plan_all(&catalog(&[(1289, 1000), (5289, 500)], Dtype::F32), 0);
    assert_eq!(plan.segments.len(), 1);
    assert!(plan.places.iter().all(|place| place.offset % 4 == 0));
}

#[test]
fn a_misaligned_entry_gets_a_place_of_its_own() {
    let plan = plan_all(
        &catalog(&[(0, 1000), (4001, 100), (4404, 1000)], Dtype::F32),
        8192,
    );
    assert!(plan.places.iter().all(|place| place.offset % 4 == 0));
    assert_eq!(extents(&plan), [(0, 8404), (4001, 400)]);
}

#[test]
fn tied_entries_share_their_bytes() {
    let catalog = catalog(&[(64, 100), (64, 100), (164, 40)], Dtype::F32);
    let plan = plan_all(&catalog, 0);
    assert_eq!(plan.places[0].offset, plan.places[1].offset);
    assert_eq!(plan.bytes_wanted, 400);
}

#[test]
fn views_in_a_mapping_allocate_nothing() {
    let catalog = catalog(&[(64, 100), (465, 100)], Dtype::F32);
    let options = LoadOptions::default().mode(Mode::Map).merge_gap_bytes(0);
    let plan = plan(&catalog, |_| Some(0), &[GroupRules::default()], &options).unwrap();
    assert_eq!(plan.groups[0].memory, GroupMemory::Mapped(ShardId::FIRST));
    assert_eq!((plan.places[0].group, plan.places[0].offset), (0, 64));
    // The misaligned one is copied.
    assert_eq!(plan.places[1].group, 1);
    assert_eq!(plan.bytes_to_allocate(), 448);
}

#[test]
fn a_device_that_is_not_there_is_misuse() {
    let catalog = catalog(&[(0, 1)], Dtype::U8);
    let options = LoadOptions::default();
    let error = plan(&catalog, |_| Some(1), &[GroupRules::default()], &options).unwrap_err();
    assert_eq!(
        (error.kind(), error.tensor()),
        (ErrorKind::Misuse, Some("t0"))
    );
}

#[test]
fn a_load_reads_what_the_plan_says_and_no_more() {
    let extents: Vec<_> = (0..64).map(|index| (8 + index * 9000, 2000)).collect();
    let catalog = catalog(&extents, Dtype::F32);
    let sample = Sample {
        catalog,
        shards: vec![pattern(600_000, 1)],
    };
    let counted = Arc::new(Counted::new(MemoryStorage::new(sample.shards[0].clone())));
    let shards = [Shard::new("counted", Arc::clone(&counted) as _)];
    let mut options = LoadOptions::default();
    options.merge_gap_bytes = 0;
    options.chunk_bytes = 64 << 10;
    sample
        .load(&shards, tensorlift_device::HostDevice::new(), &options)
        .unwrap();
    assert_eq!(counted.bytes(), 64 * 8000);
    assert_eq!(plan_all(&sample.catalog, 0).bytes_to_read, 64 * 8000);
}

#[test]
fn a_plan_is_printed_and_serialised() {
    let plan = plan_all(&catalog(&[(64, 100)], Dtype::F32), 0);
    assert_eq!(
        plan.to_string(),
        "1 tensor, 400 bytes wanted, 400 bytes to read in 1 segment\n\
         group 0: 448 bytes on device 0\n  shard 0 bytes 64..464 -> 0\n"
    );
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["segments"][0]["from"]["stored"]["offset"], 64);
    assert_eq!(json["groups"][0]["memory"]["device"], 0);
}

proptest! {
    /// Whatever the catalog and the selection, no more is read than DESIGN.md promises.
    #[test]
    fn a_selection_reads_at_most_twice_what_it_needs(
        entries in proptest::collection::vec(
            (
                prop_oneof![Just(0u64), 0u64..5000, 0u64..70_000],
                prop_oneof![0usize..100, 0usize..5000, 0usize..100_000],
                proptest::bool::weighted(0.7),
            ),
            1..200,
        ),
        dtype in prop_oneof![Just(Dtype::U8), Just(Dtype::F32)],
        merge_gap_bytes in prop_oneof![Just(64u64 << 10), Just(u64::MAX), 0u64..100_000],
    ) {
        let mut end = 0;
        let mut extents = Vec::new();
        for &(gap, elements, _) in &entries {
            extents.push((end + gap, elements));
            end += gap + elements as u64 * dtype.alignment() as u64;
        }
        let catalog = catalog(&extents, dtype);
        let plan = plan_some(&catalog, merge_gap_bytes, |index| entries[index].2);
        prop_assert!(plan.bytes_to_read >= plan.bytes_wanted);
        prop_assert!(plan.bytes_to_read <= most_bytes(&plan), "{}", plan);
    }

    /// Whatever the catalog: places are aligned and within their groups, and what arrives in a
    /// group never overlaps.
    #[test]
    fn plans_are_sound(
        sample in samples(),
        alignment in prop_oneof![Just(1usize), Just(16), Just(64)],
        max_bytes in prop_oneof![Just(u64::MAX), 1u64..50_000],
        one_dtype in any::<bool>(),
        merge_gap_bytes in 0u64..20_000,
    ) {
        let mut rules = GroupRules::default();
        rules.tensor_alignment = alignment;
        rules.max_bytes = max_bytes;
        rules.one_dtype = one_dtype;
        let options = LoadOptions::default().merge_gap_bytes(merge_gap_bytes);
        let plan = plan(&sample.catalog, |_| Some(0), &[rules], &options).unwrap();

        let mut ends = vec![0; plan.groups.len()];
        for segment in &plan.segments {
            prop_assert!(segment.to >= ends[segment.group]);
            ends[segment.group] = segment.to + segment.len;
        }
        for (group, end) in plan.groups.iter().zip(&ends) {
            prop_assert!(*end <= group.bytes);
        }
        for place in &plan.places {
            let entry = &sample.catalog.entries()[place.entry];
            let needed = entry.dtype().alignment().max(alignment) as u64;
            prop_assert!(place.offset.is_multiple_of(needed));
            let group = &plan.groups[place.group];
            prop_assert!(place.offset + entry.span_bytes() <= group.bytes);
            prop_assert!(group.dtype.is_none_or(|dtype| dtype == entry.dtype()));
            if entry.span_bytes() == 0 {
                continue;
            }
            let arrives = |segment: &&tensorlift_loader::Segment| {
                segment.group == place.group
                    && segment.to <= place.offset
                    && place.offset + entry.span_bytes() <= segment.to + segment.len
            };
            let segment = plan.segments.iter().find(arrives);
            prop_assert!(segment.is_some(), "nothing arrives for {entry:?}");
            if let (SegmentSource::Stored(extent), Source::Stored(_)) =
                (segment.unwrap().from, &sample.catalog.record(entry).source)
            {
                let from = extent.offset + (place.offset - segment.unwrap().to);
                prop_assert_eq!(from, entry.extent().offset);
            }
        }
    }
}
