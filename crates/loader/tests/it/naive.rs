//! The plainest way to get a tensor's bytes, and the proof that the fast way gets the same.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;
use tensorlift_device::double::StagedDevice;
use tensorlift_device::{GroupRules, HostDevice, VecDevice};
use tensorlift_fixture_kit::oracle;
use tensorlift_loader::{Cast, DtypePolicy, LoadOptions, Loaded, Mode};
use tensorlift_storage::wrap::Chopped;
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Source};

use super::{Sample, samples};

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Whether PyTorch has lazily negated tensors of this dtype.
pub(crate) fn can_negate(dtype: Dtype) -> bool {
    use Dtype::{BC32, BF16, C32, C64, C128, F16, F32, F64, I8, I32, I64};
    let floats = matches!(dtype, F16 | BF16 | F32 | F64 | C32 | BC32 | C64 | C128);
    floats || matches!(dtype, I8 | I32 | I64)
}

/// The row-major little-endian bytes of an entry, element by element.
pub(crate) fn expected(sample: &Sample, entry: &Entry) -> Vec<u8> {
    let shard = &sample.shards[entry.extent().shard.index()];
    let bytes = oracle::tensor(shard, &sample.catalog, entry);
    bytes.expect("a tensor with bytes")
}

/// The same in the dtype that the policy requests, which is the second.
fn expected_as(sample: &Sample, entry: &Entry, policy: &DtypePolicy) -> (Vec<u8>, Dtype) {
    let bytes = expected(sample, entry);
    let position = sample.catalog.position(entry.name()).unwrap();
    match policy.casts(&sample.catalog).unwrap().of(position) {
        None => (bytes, entry.dtype()),
        Some(cast) => {
            let mut converted = vec![0; cast.converted_len(bytes.len() as u64) as usize];
            cast.convert(&bytes, &mut converted);
            (converted, cast.to())
        }
    }
}

/// Every tensor of the catalog is there, in order, with the bytes of the plainest way.
fn check(sample: &Sample, loaded: &Loaded, options: &LoadOptions) {
    let catalog: &Catalog = &sample.catalog;
    let has_bytes = |entry: &&Entry| !matches!(catalog.record(entry).source, Source::Absent { .. });
    let entries: Vec<&Entry> = catalog.entries().iter().filter(has_bytes).collect();
    let names: Vec<&str> = loaded
        .tensors()
        .iter()
        .map(tensorlift_loader::Tensor::name)
        .collect();
    assert_eq!(
        names,
        entries.iter().map(|entry| entry.name()).collect::<Vec<_>>()
    );
    for entry in entries {
        let tensor = loaded.tensor(entry.name()).unwrap();
        let contiguous = tensor.to_contiguous().unwrap();
        let (expected, dtype) = expected_as(sample, entry, &options.dtype);
        assert_eq!(contiguous.as_bytes().unwrap(), expected, "{entry:?}");
        assert_eq!((tensor.dtype(), contiguous.dtype()), (dtype, dtype));
        let address = tensor.as_bytes().unwrap().as_ptr().addr();
        if !tensor.as_bytes().unwrap().is_empty() {
            assert!(
                address.is_multiple_of(dtype.alignment()),
                "{entry:?} at {address}"
            );
        }
    }
}

fn dtypes() -> impl Strategy<Value = DtypePolicy> {
    let common = prop::sample::select(vec![Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16]);
    // Any float to any other, by its shape.
    let by_shape = |entry: &Entry| {
        let targets = [
            Dtype::F64,
            Dtype::F8E4M3,
            Dtype::BF16,
            Dtype::F32,
            Dtype::F16,
        ];
        let target = targets[entry.shape().iter().sum::<usize>() % targets.len()];
        match Cast::between(entry.dtype(), target) {
            Some(_) => target,
            None => entry.dtype(),
        }
    };
    prop_oneof![
        2 => Just(DtypePolicy::Keep),
        1 => common.prop_map(DtypePolicy::To),
        1 => Just(DtypePolicy::by(by_shape)),
    ]
}

fn options() -> impl Strategy<Value = LoadOptions> {
    let mode = prop_oneof![Just(Mode::Copy), Just(Mode::Map)];
    let gap = prop_oneof![Just(0u64), 0u64..100, 0u64..100_000];
    (
        mode,
        1usize..5,
        prop_oneof![Just(4096usize), 1usize..20_000],
        gap,
        dtypes(),
    )
        .prop_map(
            |(mode, read_threads, chunk_bytes, merge_gap_bytes, dtype)| {
                LoadOptions::default()
                    .dtype(dtype)
                    .mode(mode)
                    .read_threads(read_threads)
                    .chunk_bytes(chunk_bytes)
                    .merge_gap_bytes(merge_gap_bytes)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn host_memory_holds_what_the_plainest_way_gets(
        sample in samples(),
        options in options(),
        alignment in prop_oneof![Just(1usize), Just(64), Just(256)],
    ) {
        let host = HostDevice::new().with_tensor_alignment(alignment);
        let loaded = sample.load(&sample.shards(), host, &options).unwrap();
        check(&sample, &loaded, &options);
        for tensor in &loaded {
            let empty = tensor.as_bytes().unwrap().is_empty();
            let address = tensor.as_bytes().unwrap().as_ptr().addr();
            // A view in a mapping is as aligned as the mapping, which is a Vec here.
            prop_assert!(empty || options.mode == Mode::Map || address.is_multiple_of(alignment));
        }
    }

    #[test]
    fn chopped_reads_make_no_difference(
        sample in samples(),
        options in options(),
        most in 1usize..3000,
    ) {
        let options = options.mode(Mode::Copy);
        let shards = sample.shards_through(|storage| Arc::new(Chopped::new(storage, most)));
        let loaded = sample.load(&shards, HostDevice::new(), &options).unwrap();
        check(&sample, &loaded, &options);
    }

    #[test]
    fn staging_buffers_make_no_difference(
        sample in samples(),
        options in options(),
        buffers in 1usize..4,
        buffer_bytes in 16usize..9000,
        max_bytes in 1u64..60_000,
    ) {
        let options = options.mode(Mode::Copy);
        let mut rules = GroupRules::default();
        rules.tensor_alignment = 16;
        rules.max_bytes = max_bytes;
        let device = StagedDevice::new(buffers, buffer_bytes).with_rules(rules);
        let loaded = sample.load(&sample.shards(), device.clone(), &options).unwrap();
        check(&sample, &loaded, &options);
        drop(loaded);
        prop_assert_eq!((device.live_groups(), device.free_lanes()), (0, buffers));
    }

    #[test]
    fn typed_vectors_make_no_difference(sample in samples(), options in options()) {
        let options = options.mode(Mode::Copy);
        let loaded = sample.load(&sample.shards(), VecDevice::new(), &options);
        // Bytes in a `Vec<u8>` have no alignment, so only contents are compared.
        let loaded = loaded.unwrap();
        for tensor in &loaded {
            let contiguous = tensor.to_contiguous().unwrap();
            let (expected, _) = expected_as(&sample, tensor.entry(), &options.dtype);
            prop_assert_eq!(contiguous.as_bytes().unwrap(), expected);
        }
    }
}
