//! The example of an engine, over the double of the driver.

use std::fs;
use std::path::Path;
use std::process::Command;

use tensorlift_fake_cuda::harness;
use tensorlift_format_safetensors as safetensors;
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::Limits;

#[test]
fn the_engine_takes_its_parameters_out_of_one_plan() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = model.join("../../fixtures/tiny-model/model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    harness::link(folder.path(), false);
    // `cargo test` builds it beside this test.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/engine");
    let output = Command::new(example)
        .arg(&model)
        .env("LD_LIBRARY_PATH", harness::search_path(folder.path()))
        .output()
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&err));
    assert_eq!(String::from_utf8(out).unwrap(), expected(&model));
}

/// What the example prints, from the bytes of the file.
fn expected(model: &Path) -> String {
    let file = fs::read(model).unwrap();
    let catalog = safetensors::read(&MemoryStorage::new(file.clone()), &Limits::default()).unwrap();
    let tensor = |name: &str| {
        let entry = catalog.get(&format!("encoder.layer.0.{name}")).unwrap();
        let extent = entry.extent();
        let bytes = &file[extent.offset as usize..extent.end() as usize];
        let values = bytes.chunks_exact(4);
        let values = values.map(|value| f32::from_le_bytes(value.try_into().unwrap()));
        (values.collect::<Vec<f32>>(), entry.shape().to_vec())
    };
    let qkv = ["query", "key", "value"].map(|part| format!("attention.self.{part}.weight"));
    let qkv: Vec<f32> = qkv.iter().flat_map(|name| tensor(name).0).collect();
    let (down, shape) = tensor("output.dense.weight");
    // The second half of each row.
    let down = down.chunks(shape[1]).flat_map(|row| &row[shape[1] / 2..]);
    let parameters = [
        ("out", tensor("attention.output.dense.weight").0),
        ("qkv", qkv),
        ("down", down.copied().collect()),
        ("norm", tensor("output.LayerNorm.weight").0),
    ];
    let mut lines = String::new();
    for (name, values) in parameters {
        let weighted = (1..).zip(&values);
        let sum: f64 = weighted
            .map(|(i, value)| f64::from(i) * f64::from(*value))
            .sum();
        lines += &format!("{name} {} {sum:?}\n", values.len());
    }
    lines
}
