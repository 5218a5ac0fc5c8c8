//! A build without the feature `torch` reads safetensors, and says of PyTorch files that they are
//! left out.
#![cfg(not(feature = "torch"))]

use std::fs;

use tensorlift::{Checkpoint, ErrorKind, WeightFormat};
use tensorlift_fixture_kit::committed;

#[test]
fn safetensors_load_and_pytorch_files_are_refused() {
    let fixtures = committed::folder();
    let folder = tempfile::tempdir().unwrap();
    let torch_file = folder.path().join("pytorch_model.bin");
    fs::copy(fixtures.join("torch-script/half.pt"), &torch_file).unwrap();

    let options = Checkpoint::options().preferred_format(WeightFormat::Torch);
    let refused = options.open(folder.path()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(refused.path(), Some(&*torch_file));
    assert!(refused.to_string().contains("feature `torch`"), "{refused}");

    // Beside it, the other format is taken where a fallback is asked for.
    let safetensors = folder.path().join("model.safetensors");
    fs::copy(fixtures.join("tiny-model/model.safetensors"), &safetensors).unwrap();
    let model = options.fallback(true).open(folder.path()).unwrap();
    assert_eq!(model.choice().chosen, safetensors);
    assert!(model.loader().load().unwrap().report().bytes_wanted > 0);
}
