use std::collections::BTreeMap;

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tensorlift_fixture_kit::committed;
use tensorlift_tensor_meta::Dtype;

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_listed_checkpoint_is_there_and_every_line_is_possible() {
    let all = committed::all();
    assert!(all.len() >= 10, "{} checkpoints", all.len());
    for checkpoint in all {
        assert!(checkpoint.path.exists(), "{}", checkpoint.name);
        for tensor in &checkpoint.tensors {
            let dtype = Dtype::from_name(&tensor.dtype);
            let dtype = dtype.unwrap_or_else(|| panic!("{}: {}", checkpoint.name, tensor.dtype));
            let elements: usize = tensor.shape.iter().product();
            if tensor.sha256.is_some() && dtype.byte_len().is_some() {
                assert_eq!(
                    tensor.bytes,
                    elements as u64 * dtype.bits() / 8,
                    "{tensor:?}"
                );
            }
            if let Some(file) = &tensor.file {
                let folder = if checkpoint.path.is_dir() {
                    checkpoint.path.clone()
                } else {
                    checkpoint.path.parent().unwrap().to_owned()
                };
                assert!(folder.join(file).exists(), "{file}");
            }
        }
    }
}

#[test]
fn committed_safetensors_hold_what_is_listed() {
    let mut files = 0;
    for checkpoint in committed::all() {
        if !checkpoint.name.ends_with(".safetensors") {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&checkpoint.path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), checkpoint.tensors.len(), "{}", checkpoint.name);
        for tensor in &checkpoint.tensors {
            let view = file.tensor(&tensor.name).unwrap();
            assert_eq!(view.dtype().to_string(), tensor.dtype);
            assert_eq!(view.shape(), tensor.shape);
            assert_eq!(view.data().len() as u64, tensor.bytes);
            assert_eq!(Some(hex(view.data())), tensor.sha256, "{}", tensor.name);
        }
        if !checkpoint.metadata.is_empty() {
            let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
            let metadata = header.metadata().clone().unwrap();
            assert_eq!(
                metadata.into_iter().collect::<BTreeMap<_, _>>(),
                checkpoint.metadata
            );
        }
    }
    assert!(files >= 5, "{files} files");
}
