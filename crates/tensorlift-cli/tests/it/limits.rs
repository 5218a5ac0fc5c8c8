//! Limits of the machine: a command goes on with less, or ends with a typed error; it never aborts.
//!
//! Limits hold for a whole process, so a shell sets them and becomes the program.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use super::path;

/// Runs the program under limits that `sh` sets.
fn limited(limits: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
    command
        .arg(env!("CARGO_BIN_EXE_tensorlift"))
        .args(arguments);
    command.output().unwrap()
}

/// The JSON that a run printed last, which ended by itself: with 0, or with 1 and an error.
fn ended(run: &Output, what: &str) -> Value {
    let errors = String::from_utf8_lossy(&run.stderr);
    let code = run.status.code();
    assert!(
        matches!(code, Some(0 | 1)),
        "{what}: {:?}: {errors}",
        run.status
    );
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    let lines = String::from_utf8_lossy(&run.stdout);
    let last = lines.lines().last().unwrap_or_default();
    let said: Value = serde_json::from_str(last)
        .unwrap_or_else(|error| panic!("{what}: {error}: {last:?}, {errors}"));
    assert_eq!(code == Some(1), said["error"].is_object(), "{what}: {said}");
    said
}

/// A checkpoint of many shards.
fn sharded(folder: &Path, format: Format, shards: usize) {
    let spec = CheckpointSpec::new(format).shards(shards);
    let spec = (0..2 * shards).fold(spec, |spec, number| {
        spec.tensor(format!("t{number:03}"), Dtype::F32, [1000])
    });
    spec.write(folder).unwrap();
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = path("tiny-model");
    for (name, more) in [
        ("a.safetensors", &[][..]),
        ("a.pt", &[]),
        ("shards", &["--shard-size", "40kB"]),
        ("torch-shards", &["--to", "torch", "--shard-size", "40kB"]),
    ] {
        let to = folder.path().join(name);
        let arguments = ["convert", &from, to.to_str().unwrap(), "--json"];
        let arguments = [&arguments[..], more].concat();
        // A file may have 16 KiB; the signal of a larger one must not end the program.
        let run = limited("ulimit -f 32", &arguments);
        let said = ended(&run, name);
        assert_eq!(said["error"]["kind"], "storage", "{name}: {said}");
        assert!(
            said["error"]["remedy"]
                .as_str()
                .unwrap()
                .contains("ulimit -f"),
            "{name}: {said}"
        );
        let errors = String::from_utf8(run.stderr).unwrap();
        assert_eq!(errors.lines().count(), 1, "{name}: {errors}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[test]
fn few_descriptors_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [
        ("safetensors", Format::safetensors()),
        ("torch", Format::torch_zip()),
    ] {
        let from = folder.path().join(name);
        sharded(&from, format, 40);
        let from = from.to_str().unwrap();
        let to = folder.path().join(format!("{name}-out"));
        for arguments in [
            &["load", from, "--json", "--threads", "8"][..],
            &["load", from, "--json", "--mode", "map"],
            &["inspect", from, "--json", "--hash"],
            &["convert", from, to.to_str().unwrap(), "--json"],
        ] {
            for files in [16, 8, 5] {
                let run = limited(&format!("ulimit -n {files}"), arguments);
                let said = ended(&run, &format!("{files} files: {arguments:?}"));
                let error = &said["error"];
                // Sixteen are enough for all but mappings, which hold their files.
                assert!(error.is_null() || files < 16, "{arguments:?}: {said}");
                if !error.is_null() {
                    assert_eq!(error["kind"], "storage", "{arguments:?}: {said}");
                    let remedy = error["remedy"].as_str().unwrap_or_default();
                    assert!(remedy.contains("ulimit -n"), "{arguments:?}: {said}");
                }
                let _ = std::fs::remove_dir_all(&to);
            }
        }
    }
}

#[test]
fn little_address_space_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    sharded(&folder.path().join("in"), Format::safetensors(), 8);
    let from = folder.path().join("in");
    let big = folder.path().join("big.pt");
    let spec = CheckpointSpec::new(Format::torch_zip()).tensor("w", Dtype::F32, [64 << 18]);
    std::fs::write(&big, spec.to_bytes()).unwrap();
    let to = folder.path().join("out.safetensors");
    let (from, big, to) = (
        from.to_str().unwrap(),
        big.to_str().unwrap(),
        to.to_str().unwrap(),
    );
    let mut refused = 0;
    for arguments in [
        &["load", from, "--json"][..],
        &["load", big, "--json"],
        &["inspect", big, "--json", "--hash"],
        &["convert", big, to, "--json", "--force"],
    ] {
        // From less than the program needs for its own work to enough for all.
        for mebibytes in [24, 32, 48, 64, 80, 96, 160, 400] {
            let limit = format!("ulimit -v {}", mebibytes << 10);
            if !limited(&limit, &["--version"]).status.success() {
                continue;
            }
            let run = limited(&limit, arguments);
            let said = ended(&run, &format!("{mebibytes} MiB: {arguments:?}"));
            refused += usize::from(said["error"].is_object());
            assert!(mebibytes < 400 || said["error"].is_null(), "{said}");
        }
    }
    assert!(refused > 3, "{refused} runs were refused");
}

#[test]
fn an_index_larger_than_the_address_space_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let names: Vec<String> = (0..300_000)
        .map(|number| format!("\"layers.{number}.weight\":\"model-00001-of-00001.safetensors\""))
        .collect();
    std::fs::write(
        &index,
        format!("{{\"weight_map\":{{{}}}}}", names.join(",")),
    )
    .unwrap();
    let from = folder.path().to_str().unwrap();
    let mut kinds = Vec::new();
    for mebibytes in [24, 32, 40, 48, 400] {
        let limit = format!("ulimit -v {}", mebibytes << 10);
        if !limited(&limit, &["--version"]).status.success() {
            continue;
        }
        let run = limited(&limit, &["inspect", from, "--json"]);
        let said = ended(&run, &format!("{mebibytes} MiB"));
        kinds.push(said["error"]["kind"].as_str().unwrap().to_owned());
    }
    // With enough memory the shard that the index names is what is missing.
    assert_eq!(kinds.last().unwrap(), "not_found", "{kinds:?}");
    assert!(kinds.contains(&"limit_exceeded".to_owned()), "{kinds:?}");
}

#[test]
fn no_locked_memory_is_needed() {
    let from = path("tiny-model");
    for reader in ["auto", "uring", "direct"] {
        let run = limited(
            "ulimit -l 0",
            &["load", &from, "--json", "--reader", reader],
        );
        let said = ended(&run, reader);
        assert_eq!(said["tensors"], 40, "{said}");
    }
}
