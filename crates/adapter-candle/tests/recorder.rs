//! Skeletons of candle models; alone in its process, as it measures memory.
#![cfg(target_os = "linux")]

use std::path::Path;

use candle_core::DType;
use candle_transformers::models::bert::{BertModel, Config};
use tensorlift::skeleton::FillRules;
use tensorlift::{Checkpoint, os};

#[test]
fn a_model_is_recorded_without_memory_and_filled() {
    // all-MiniLM-L6-v2 by its sizes: 90 MB in F32.
    let config = Config {
        hidden_size: 384,
        num_hidden_layers: 6,
        intermediate_size: 1536,
        ..Config::default()
    };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = os::memory().resident;
    let skeleton =
        tensorlift_candle::skeleton_of(DType::F32, |weights| BertModel::load(weights, &config));
    let skeleton = skeleton.unwrap();
    let grown = os::memory().peak.saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    let elements = skeleton.parameters().iter();
    let elements: usize = elements.map(|it| it.shape.iter().product::<usize>()).sum();
    assert_eq!(elements, 22_565_376);

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny-model");
    let config = std::fs::read(Path::new(folder).join("config.json")).unwrap();
    let config: Config = serde_json::from_slice(&config).unwrap();
    let skeleton =
        tensorlift_candle::skeleton_of(DType::F32, |weights| BertModel::load(weights, &config));
    let skeleton = skeleton.unwrap();
    let checkpoint = Checkpoint::open(folder).unwrap();
    let error = checkpoint.loader().fill(&skeleton).unwrap_err().to_string();
    assert!(error.contains("pooler.dense.weight"), "{error}");
    let rules = FillRules::new()
        .ignore("embeddings.position_ids")
        .ignore("pooler.*");
    let model = checkpoint.loader().fill_by(&skeleton, &rules).unwrap();
    assert_eq!(model.tensors().len(), skeleton.parameters().len());
}
