use proptest::prelude::*;
use safetensors::SafeTensors;
use tensorlift_fixture_kit::safetensors::SafetensorsOptions;
use tensorlift_fixture_kit::{CheckpointSpec, Format, arbitrary_spec, presets};
use tensorlift_tensor_meta::Dtype;

/// Reads every shard with the `safetensors` crate and compares all that it says.
fn assert_reads_back(spec: &CheckpointSpec) {
    let expected = spec.expected();
    let mut found = 0;
    for shard in 0..spec.shards {
        let bytes = spec.shard_bytes(shard);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        found += file.len();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        assert_eq!(
            metadata
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>(),
            spec.metadata
        );
        for tensor in expected.iter().filter(|tensor| tensor.shard == shard) {
            let view = file.tensor(&tensor.name).unwrap();
            assert_eq!(view.dtype().to_string(), tensor.dtype.as_str());
            assert_eq!(view.shape(), tensor.shape);
            assert!(view.data() == tensor.bytes, "{tensor:?}");
        }
    }
    assert_eq!(found, expected.len());
}

#[test]
fn every_dtype_of_the_format() {
    let spec = presets::assorted(Format::safetensors()).metadata("format", "pt");
    assert!(
        spec.tensors
            .iter()
            .any(|tensor| tensor.dtype == Dtype::F6E3M2)
    );
    assert_reads_back(&spec);
    assert_reads_back(&spec.shards(4));
}

#[test]
fn alignment_and_spaces_place_the_data() {
    for (alignment, extra_spaces) in [(1, 0), (8, 3), (4096, 0)] {
        let spec = CheckpointSpec::new(Format::Safetensors(SafetensorsOptions {
            alignment,
            extra_spaces,
            ..Default::default()
        }))
        .tensor("w", Dtype::F32, [3]);
        let bytes = spec.to_bytes();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!((8 + header - extra_spaces) % alignment, 0);
        assert_eq!(bytes.len(), 8 + header + 12);
        assert_reads_back(&spec);
    }
}

proptest! {
    #[test]
    fn any_recipe_reads_back(spec in arbitrary_spec()) {
        let mut spec = spec;
        if !matches!(spec.format, Format::Safetensors(_)) {
            spec.format = Format::safetensors();
            // Types that only PyTorch has.
            spec.tensors.retain(|tensor| Format::safetensors().holds(tensor.dtype));
            spec.shards = spec.shards.min(spec.tensors.len()).max(1);
        }
        assert_reads_back(&spec);
    }

    #[test]
    fn written_files_are_the_shards(spec in arbitrary_spec()) {
        let folder = tempfile::tempdir().unwrap();
        let written = spec.write(folder.path()).unwrap();
        for (shard, file) in written.files.iter().enumerate() {
            prop_assert_eq!(std::fs::read(file).unwrap(), spec.shard_bytes(shard));
        }
        prop_assert_eq!(written.index.is_some(), spec.shards > 1);
    }
}
