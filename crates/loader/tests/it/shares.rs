//! Shares of ranks, cut on the way, against the plainest slicing.

use proptest::prelude::*;
use tensorlift_device::double::StagedDevice;
use tensorlift_device::{GroupRules, HostDevice};
use tensorlift_loader::LoadOptions;
use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, Slice, View};

use super::{Sample, pattern};

/// One BF16 tensor of this shape, `start` bytes into its shard.
fn tensor(shape: &[usize], start: usize) -> Sample {
    let mut builder = Catalog::builder();
    let layout = Layout::contiguous(shape).unwrap();
    let len = layout.span_bytes(Dtype::BF16).unwrap();
    let record = Record::stored(Extent::new(ShardId::FIRST, start as u64, len));
    let record = builder.record(record).unwrap();
    builder
        .entry("weight", Dtype::BF16, layout, View::whole(record))
        .unwrap();
    Sample {
        catalog: builder.finish(),
        shards: vec![pattern(start + len as usize + 3, 7)],
    }
}

/// The bytes of a share, element by element.
fn expected(sample: &Sample, shape: &[usize], slices: &[Slice]) -> Vec<u8> {
    let ranges: Vec<_> = (0..shape.len())
        .map(|dim| {
            let slice = slices.iter().find(|slice| slice.dim() == dim);
            slice.map_or(0..shape[dim], |slice| slice.indices(shape[dim]))
        })
        .collect();
    let start = sample.catalog.entries()[0].extent().offset as usize;
    let elements: usize = shape.iter().product();
    let mut bytes = Vec::new();
    for element in 0..elements {
        let mut rest = element;
        let inside = (0..shape.len()).rev().all(|dim| {
            let index = rest % shape[dim];
            rest /= shape[dim];
            ranges[dim].contains(&index)
        });
        if inside {
            bytes.extend_from_slice(&sample.shards[0][start + element * 2..][..2]);
        }
    }
    bytes
}

fn sliced(sample: &Sample, slices: &[Slice]) -> Sample {
    let cut = |catalog: Catalog, slice: &Slice| catalog.sliced(|_| Some(*slice)).unwrap();
    Sample {
        catalog: slices.iter().fold(sample.catalog.clone(), cut),
        shards: sample.shards.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn shares_of_any_dimension_arrive_without_the_rest(
        shape in proptest::collection::vec(1usize..40, 1..4),
        cuts in proptest::collection::vec((0usize..4, 0usize..5, 1usize..5, any::<bool>()), 1..3),
        start in 0usize..100,
        chunk_bytes in prop_oneof![Just(4096usize), 4096usize..20_000],
        gap in prop_oneof![Just(0u64), 0u64..100, Just(65_536u64)],
        slot_bytes in prop_oneof![16usize..100, 16usize..9000],
        threads in 1usize..4,
    ) {
        let whole = tensor(&shape, start);
        let mut slices: Vec<Slice> = Vec::new();
        for (dim, rank, world, by_range) in cuts {
            let dim = dim % shape.len();
            let slice = match by_range {
                true => Slice::range(dim, rank.min(shape[dim])..(rank + world).min(shape[dim])),
                false => Slice::rank(dim, rank % world, world),
            };
            if slices.iter().all(|other| other.dim() != slice.dim()) {
                slices.push(slice);
            }
        }
        let share = sliced(&whole, &slices);
        let expected = expected(&whole, &shape, &slices);
        let options = LoadOptions::default()
            .row_major(true)
            .chunk_bytes(chunk_bytes)
            .merge_gap_bytes(gap)
            .read_threads(threads);
        let loaded = share.load(&share.shards(), HostDevice::new(), &options).unwrap();
        let tensor = loaded.tensor("weight").unwrap();
        prop_assert!(tensor.is_contiguous());
        prop_assert_eq!(tensor.as_bytes().unwrap(), &expected[..]);
        // Memory for the share alone, up to its alignment.
        prop_assert!(tensor.group().len() <= expected.len() + 4096 + 64);

        let device = StagedDevice::new(2, slot_bytes).with_rules(GroupRules::default());
        let loaded = share.load(&share.shards(), device, &options).unwrap();
        prop_assert_eq!(loaded.tensor("weight").unwrap().as_bytes().unwrap(), &expected[..]);
        // Nor does the bus carry more.
        prop_assert_eq!(loaded.report().bytes_over_bus, expected.len() as u64);
    }
}

#[test]
fn rows_that_lie_far_apart_are_read_apart() {
    // Rows of 128 KiB, of which a quarter is wanted.
    let whole = tensor(&[8, 65_536], 64);
    let slice = Slice::rank(1, 2, 4);
    let share = sliced(&whole, &[slice]);
    let options = LoadOptions::default().row_major(true);
    let loaded = share
        .load(&share.shards(), HostDevice::new(), &options)
        .unwrap();
    let bytes = loaded.tensor("weight").unwrap().as_bytes().unwrap();
    assert!(bytes == expected(&whole, &[8, 65_536], &[slice]));
    assert_eq!(loaded.report().bytes_read, 8 * 32_768);
    assert_eq!(loaded.report().bytes_wanted, 8 * 32_768);
    // Close together, they are read with what is between them, and no more is kept.
    let near = options.merge_gap_bytes(1 << 20);
    let loaded = share
        .load(&share.shards(), HostDevice::new(), &near)
        .unwrap();
    assert_eq!(loaded.report().bytes_read, 7 * 131_072 + 32_768);
    assert_eq!(loaded.tensor("weight").unwrap().group().len(), 8 * 32_768);
}

#[test]
fn shares_of_one_fused_matrix_share_its_reads() {
    // Three entries that look at thirds of the columns of one matrix.
    let (rows, columns) = (512, 3072);
    let len = rows * columns * 2;
    let mut builder = Catalog::builder();
    let record = Record::stored(Extent::new(ShardId::FIRST, 0, len as u64));
    let record = builder.record(record).unwrap();
    for (index, name) in ["q", "k", "v"].into_iter().enumerate() {
        let layout = Layout::strided([rows, columns / 3], [columns, 1]).unwrap();
        let view = View::at(record, (index * columns / 3 * 2) as u64);
        builder.entry(name, Dtype::BF16, layout, view).unwrap();
    }
    let sample = Sample {
        catalog: builder.finish(),
        shards: vec![pattern(len, 3)],
    };
    let options = LoadOptions::default().row_major(true);
    let loaded = sample
        .load(&sample.shards(), HostDevice::new(), &options)
        .unwrap();
    assert_eq!(loaded.report().bytes_read, len as u64);
    for (index, tensor) in loaded.tensors().iter().enumerate() {
        let bytes = tensor.as_bytes().unwrap();
        for (row, found) in bytes.chunks(columns / 3 * 2).enumerate() {
            let from = row * columns * 2 + index * columns / 3 * 2;
            assert!(
                found == &sample.shards[0][from..][..found.len()],
                "row {row}"
            );
        }
    }
}
