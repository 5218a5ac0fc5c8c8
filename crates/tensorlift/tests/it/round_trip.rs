//! Whatever fixture-kit can write is read back equal; whatever is broken is refused or equal.

use proptest::prelude::*;
use tensorlift::{Checkpoint, Loaded, Mode};
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_checkpoint_is_read_back_equal(
        spec in arbitrary_spec(),
        map in any::<bool>(),
        threads in 1usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let mode = if map { Mode::Map } else { Mode::Copy };
        check(&spec, &checkpoint.loader().mode(mode).read_threads(threads).load().unwrap());
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
