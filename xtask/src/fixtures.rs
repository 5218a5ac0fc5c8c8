//! `cargo xtask fixtures`: the recipes that tests and benches share, as files to try things on.

use tensorlift_fixture_kit::{CheckpointSpec, Format, presets};

use crate::{Result, command, flags};

pub(crate) fn run(flags: &flags::Fixtures) -> Result<()> {
    let out = command::from_root(&flags.out);
    let formats = [
        ("safetensors", Format::safetensors()),
        ("torch", Format::torch_zip()),
        ("torch-legacy", Format::torch_legacy()),
    ];
    for (folder, format) in formats {
        let large = presets::large(format.clone(), flags.large_mib << 20);
        let specs: [(&str, CheckpointSpec); 5] = [
            ("large", large.clone()),
            ("sharded", large.shards(4)),
            ("tiny", presets::many_tiny(format.clone(), flags.tiny)),
            ("mini-lm", presets::mini_lm(format.clone())),
            ("assorted", presets::assorted(format.clone())),
        ];
        for (name, spec) in specs {
            let written = spec.write(&out.join(folder).join(name))?;
            println!("{}", written.path.display());
        }
    }
    Ok(())
}
