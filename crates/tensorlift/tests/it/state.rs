//! What PyTorch files hold beside tensors.

use std::collections::BTreeMap;

use serde::Deserialize;
use tensorlift::{Checkpoint, Dtype, ErrorKind, Value};
use tensorlift_fixture_kit::{CheckpointSpec, Format, committed};

#[test]
fn a_training_state_fills_a_struct() {
    #[derive(Debug, Deserialize)]
    struct Training {
        epoch: u32,
        optimizer: Optimizer,
    }
    #[derive(Debug, Deserialize)]
    struct Optimizer {
        param_groups: Vec<BTreeMap<String, Value>>,
    }
    let checkpoint = Checkpoint::open(committed::one("torch-objects/training.pt").path).unwrap();
    let state: Training = checkpoint.state().unwrap();
    assert!(state.epoch > 0);
    assert!(state.optimizer.param_groups[0].contains_key("lr"));

    let misfit = checkpoint.state::<Vec<u8>>().unwrap_err();
    assert_eq!(misfit.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_root_gives_the_models_own_names() {
    let checkpoint = Checkpoint::open(committed::one("torch-objects/lightning.ckpt").path).unwrap();
    let root = checkpoint.automatic_root();
    assert_eq!(root, "state_dict");
    let full: Vec<String> = checkpoint
        .catalog()
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    let own = checkpoint.root(&root).unwrap();
    assert_eq!(own.current_root(), "state_dict");
    let loaded = own.loader().load().unwrap();
    assert!(!loaded.tensors().is_empty());
    for tensor in &loaded {
        assert!(full.contains(&format!("state_dict.{}", tensor.name())));
    }
    let error = own.root("nowhere").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn wrappers_of_a_model_are_a_root_in_every_format() {
    let names = ["module._orig_mod.a.weight", "module._orig_mod.b.weight"];
    for format in [Format::safetensors(), Format::torch_zip()] {
        let spec = CheckpointSpec::new(format);
        let spec = names
            .iter()
            .fold(spec, |spec, name| spec.tensor(*name, Dtype::U8, [1]));
        let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
        let root = checkpoint.automatic_root();
        assert_eq!(root, "module._orig_mod");
        let own = checkpoint.root(&root).unwrap();
        let own: Vec<&str> = own
            .catalog()
            .entries()
            .iter()
            .map(tensorlift::Entry::name)
            .collect();
        assert_eq!(own, ["a.weight", "b.weight"]);
    }
}

#[test]
fn the_state_of_safetensors_files_is_their_metadata() {
    #[derive(Deserialize)]
    struct Metadata {
        format: String,
    }
    let checkpoint = Checkpoint::open(committed::one("tiny-model").path).unwrap();
    assert_eq!(checkpoint.state::<Metadata>().unwrap().format, "pt");
    assert_eq!(checkpoint.automatic_root(), "");

    let spec = CheckpointSpec::new(Format::safetensors()).tensor("a", Dtype::U8, [1]);
    let without = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
    let error = without.state_value().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_without_tensors_has_a_state_and_says_so_when_loaded() {
    #[derive(Deserialize)]
    struct Run {
        epoch: u32,
    }
    let checkpoint = Checkpoint::open(committed::one("torch-objects/no_tensors.pt").path).unwrap();
    assert_eq!(checkpoint.state::<Run>().unwrap().epoch, 3);
    let error = checkpoint.loader().load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("\"epoch\""), "{error}");
}
