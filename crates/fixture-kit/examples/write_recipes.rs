//! Writes checkpoints of arbitrary recipes into a folder, so that real PyTorch and safetensors
//! can read them: `fixtures/check_recipes.py` compares.
//!
//! ```console
//! cargo run -p tensorlift-fixture-kit --example write_recipes -- FOLDER 300
//! ```

use std::path::Path;
use std::{env, fs, io};

use proptest::strategy::{Just, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;
use tensorlift_fixture_kit::torch::LegacyOptions;
use tensorlift_fixture_kit::{CheckpointSpec, Format, arbitrary_spec, arbitrary_spec_of, presets};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let folder = arguments
        .next()
        .expect("usage: write_recipes FOLDER [COUNT]");
    let count = arguments
        .next()
        .map_or(100, |count| count.parse().expect("a count"));

    let mut runner = TestRunner::deterministic();
    let legacy = proptest::arbitrary::any::<LegacyOptions>()
        .prop_flat_map(|options| arbitrary_spec_of(Format::TorchLegacy(options)));
    let any = proptest::prop_oneof![4 => arbitrary_spec(), 1 => legacy].boxed();
    let assorted = [
        Format::safetensors(),
        Format::torch_zip(),
        Format::torch_legacy(),
    ];
    let presets = assorted.map(|format| Just(presets::assorted(format)).boxed());
    for number in 0..count {
        let spec = match presets.get(number) {
            Some(preset) => preset.new_tree(&mut runner),
            None => any.new_tree(&mut runner),
        };
        write(
            &spec.expect("nothing is filtered out").current(),
            number,
            Path::new(&folder),
        )?;
    }
    Ok(())
}

fn write(spec: &CheckpointSpec, number: usize, folder: &Path) -> io::Result<()> {
    let folder = folder.join(format!("{number:05}"));
    let written = spec.write(&folder)?;
    let expected = spec.expected();
    let tensors: Vec<_> = expected
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "sha256": tensor.sha256(),
                "file": written.files[tensor.shard].file_name().and_then(|name| name.to_str()),
                "requires_grad": tensor.requires_grad,
            })
        })
        .collect();
    let listing = json!({
        "recipe": format!("{:?}", spec.format),
        "metadata": spec.metadata,
        "tensors": tensors,
    });
    fs::write(folder.join("expected.json"), listing.to_string())
}
