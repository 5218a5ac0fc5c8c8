//! Whatever fixture-kit can write is read back equal; whatever is broken is refused or equal.

use proptest::prelude::*;
use tensorlift::{Checkpoint, HostDevice, LoadOptions, Loaded, Mode, PageCache, Reader};
use tensorlift_fixture_kit::{CheckpointSpec, ExpectedTensor, arbitrary_spec};

/// Every tensor of the recipe is there with its bytes.
fn check(spec: &CheckpointSpec, loaded: &Loaded) {
    // Training checkpoints have tensors beside those of the recipe.
    let expected = spec.expected();
    assert!(loaded.tensors().len() >= expected.len());
    for ExpectedTensor {
        name,
        dtype,
        shape,
        bytes,
        ..
    } in expected
    {
        let tensor = loaded.tensor(&name).unwrap();
        assert_eq!(
            (tensor.dtype(), tensor.shape()),
            (dtype, &shape[..]),
            "{name}"
        );
        let contiguous = tensor.to_contiguous().unwrap();
        assert_eq!(contiguous.as_bytes().unwrap(), bytes, "{name}");
    }
}

/// Every reader, and sizes at which chunks, pages and gaps meet in all ways.
fn options() -> impl Strategy<Value = LoadOptions> {
    let reader = prop::sample::select(vec![
        Reader::Auto,
        Reader::Buffered,
        Reader::Direct,
        Reader::Uring,
    ]);
    let chunk_bytes = prop_oneof![Just(4096usize), Just(4 << 20), 1usize..20_000];
    let merge_gap_bytes = prop_oneof![Just(0u64), 0u64..100_000];
    let keeps = prop::sample::select(vec![
        PageCache::Keep,
        PageCache::DropAfter,
        PageCache::Bypass,
    ]);
    (
        any::<bool>(),
        reader,
        1usize..4,
        chunk_bytes,
        merge_gap_bytes,
        keeps,
    )
        .prop_map(
            |(map, reader, threads, chunk_bytes, merge_gap_bytes, page_cache)| {
                LoadOptions::default()
                    .mode(if map { Mode::Map } else { Mode::Copy })
                    .reader(reader)
                    .read_threads(threads)
                    .chunk_bytes(chunk_bytes)
                    .merge_gap_bytes(merge_gap_bytes)
                    .page_cache(page_cache)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn any_checkpoint_is_read_back_equal(
        spec in arbitrary_spec(),
        options in options(),
        alignment in prop_oneof![Just(1usize), Just(64), Just(256)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let host = HostDevice::new().with_tensor_alignment(alignment);
        check(&spec, &checkpoint.loader().options(options).place_on(host).load().unwrap());
    }

    /// A file cut anywhere is refused: no byte of it is to spare.
    #[test]
    fn a_cut_file_is_refused(spec in arbitrary_spec(), at in any::<prop::sample::Index>()) {
        let bytes = spec.shards(1).to_bytes();
        let cut = bytes[..at.index(bytes.len())].to_vec();
        let loaded = Checkpoint::from_bytes(cut).and_then(|open| open.loader().load());
        prop_assert!(loaded.is_err());
    }

    /// A flipped byte gives an error or tensors that can all be read; never a panic.
    #[test]
    fn a_flipped_byte_is_survived(
        spec in arbitrary_spec(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = spec.shards(1).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(checkpoint) = Checkpoint::from_bytes(bytes)
            && let Ok(loaded) = checkpoint.loader().load()
        {
            for tensor in &loaded {
                prop_assert_eq!(tensor.as_bytes().unwrap().len(), tensor.span_bytes());
            }
        }
    }
}
