//! Whatever fixture-kit can write is read back equal; whatever is broken is refused or equal.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tensorlift::{
    Checkpoint, Dtype, HostDevice, LoadOptions, Loaded, Mode, PageCache, Reader, ReaderKind,
};
use tensorlift_fixture_kit::safetensors::SafetensorsOptions;
use tensorlift_fixture_kit::{CheckpointSpec, ExpectedTensor, Format, TensorSpec, arbitrary_spec};
use tensorlift_storage::DirectStorage;

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

/// Each way of reading, and what the report must call it for a file.
const WAYS: [(Mode, Reader, Expected); 5] = [
    (Mode::Copy, Reader::Buffered, |_| Some(ReaderKind::Buffered)),
    (Mode::Copy, Reader::Direct, |file| {
        Some(direct(file).map_or(ReaderKind::Buffered, |_| ReaderKind::Direct))
    }),
    (Mode::Copy, Reader::Uring, |file| {
        let uring = |direct: DirectStorage| {
            direct
                .by_uring()
                .map_or(ReaderKind::Direct, |_| ReaderKind::Uring)
        };
        Some(direct(file).map_or(ReaderKind::Buffered, uring))
    }),
    (Mode::Map, Reader::Auto, |_| Some(ReaderKind::Map)),
    // That depends on what the page cache holds.
    (Mode::Copy, Reader::Auto, |_| None),
];

type Expected = fn(&Path) -> Option<ReaderKind>;

fn direct(file: &Path) -> Option<DirectStorage> {
    DirectStorage::new(Arc::new(File::open(file).unwrap())).ok()
}

/// Loads in every way, and checks that each was taken.
fn load_in_every_way(checkpoint: &Checkpoint, chunk_bytes: usize, check: impl Fn(&Loaded, Mode)) {
    for (mode, reader, expected) in WAYS {
        let options = LoadOptions::default().mode(mode).reader(reader);
        let options = options.chunk_bytes(chunk_bytes);
        let loaded = checkpoint.loader().options(options).load().unwrap();
        check(&loaded, mode);
        for file in &loaded.report().files {
            // Of some shards nothing is needed.
            if let Some(reader) = expected(&file.path).filter(|_| file.reader.is_some()) {
                assert_eq!(file.reader, Some(reader), "{:?}", file.refused);
            }
        }
    }
}

/// Any checkpoint with tensors among the others that are large enough for every reader.
fn large_spec() -> impl Strategy<Value = CheckpointSpec> {
    let dtype = prop::sample::select(vec![Dtype::U8, Dtype::F16, Dtype::F32, Dtype::I64]);
    let large = (
        dtype,
        (1 << 20)..(3usize << 20),
        any::<prop::sample::Index>(),
    );
    let larges = prop::collection::vec(large, 1..3);
    (arbitrary_spec(), larges).prop_map(|(mut spec, larges)| {
        for (index, (dtype, bytes, at)) in larges.into_iter().enumerate() {
            let name = format!("LARGE.{index}");
            let tensor = TensorSpec::new(name, dtype, [bytes / dtype.alignment()]);
            let at = at.index(spec.tensors.len() + 1);
            spec.tensors.insert(at, tensor);
        }
        spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_large_checkpoint_is_read_back_equal_in_every_way(
        spec in large_spec(),
        chunk_bytes in prop_oneof![Just(4096usize), Just(64 << 10), 1usize..(1 << 20)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        load_in_every_way(&checkpoint, chunk_bytes, |loaded, _| check(&spec, loaded));
    }
}

/// Wherever the header ends, tensors that are aligned in the file lie as they do there, so that
/// direct reads land in place.
#[test]
fn large_tensors_lie_as_in_the_file_wherever_that_suits_them() {
    let (mut in_place, mut moved) = (0, 0);
    for extra_spaces in [0, 1, 4, 8, 13] {
        for dtype in [Dtype::U8, Dtype::F32] {
            let format = Format::Safetensors(SafetensorsOptions {
                extra_spaces,
                ..SafetensorsOptions::default()
            });
            let elements = (1 << 20) + 1000;
            let spec = CheckpointSpec::new(format).tensor("large", dtype, [elements]);
            let folder = tempfile::tempdir().unwrap();
            spec.write(folder.path()).unwrap();
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            let offset = checkpoint.catalog().get("large").unwrap().extent().offset;
            let suits = offset.is_multiple_of(dtype.alignment() as u64);
            load_in_every_way(&checkpoint, 300_000, |loaded, mode| {
                check(&spec, loaded);
                let bytes = loaded.tensor("large").unwrap().as_bytes().unwrap();
                let address = bytes.as_ptr().addr() as u64;
                assert_eq!(address % 4096 == offset % 4096, suits, "{offset} {mode:?}");
                // What does not suit is copied even from a mapping.
                assert!(address.is_multiple_of(dtype.alignment() as u64));
            });
            match suits {
                true => in_place += 1,
                false => moved += 1,
            }
        }
    }
    assert_eq!((in_place, moved), (8, 2));
}

/// Direct reads leave nothing in the page cache, so none of them went through it.
#[test]
#[cfg(target_os = "linux")]
fn direct_reads_of_odd_offsets_pass_the_page_cache() {
    use tensorlift::os;

    for extra_spaces in [0, 1, 13] {
        let format = Format::Safetensors(SafetensorsOptions {
            extra_spaces,
            ..SafetensorsOptions::default()
        });
        let len = (3 << 20) + 1234;
        let spec = CheckpointSpec::new(format).tensor("large", Dtype::U8, [len]);
        let folder = tempfile::tempdir().unwrap();
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for reader in [Reader::Direct, Reader::Uring] {
            let path = checkpoint.files().next().unwrap().to_owned();
            let file = File::open(&path).unwrap();
            file.sync_all().unwrap();
            os::drop_page_cache(&file).unwrap();
            let cached = || os::cached_bytes(&file, 0, len as u64);
            if direct(&path).is_none() || cached() != Some(0) {
                eprintln!("no direct reads here, or a page cache that tells nothing");
                return;
            }
            let options = LoadOptions::default().reader(reader).chunk_bytes(1 << 20);
            let loaded = checkpoint.loader().options(options).load().unwrap();
            assert_eq!(cached(), Some(0), "{extra_spaces} {reader:?}");
            check(&spec, &loaded);
        }
    }
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
