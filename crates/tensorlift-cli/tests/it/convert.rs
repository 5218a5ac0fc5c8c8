//! Conversions, read back by hash.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tensorlift_fixture_kit::{CheckpointSpec, Format, StorageView, committed};
use tensorlift_tensor_meta::Dtype;

use super::{output, path, tensorlift};

/// Name to hash, as `inspect` prints them.
fn hashes(target: &Path) -> BTreeMap<String, Option<String>> {
    let lines = output(&["inspect", target.to_str().unwrap(), "--json", "--hash"]);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        (text("name").unwrap(), text("sha256"))
    };
    lines.lines().map(line).collect()
}

/// Converts a checkpoint, unless the format cannot hold it, which must be said.
fn convert(from: &Path, to: &Path, more: &[&str]) -> Option<Value> {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let arguments = [&["convert", from, to, "--json"], more].concat();
    let run = tensorlift(&arguments);
    let said: Value = serde_json::from_slice(&run.stdout).unwrap();
    if run.status.success() {
        return Some(said);
    }
    let kind = said["error"]["kind"].as_str().unwrap();
    assert!(
        ["unsupported", "malformed"].contains(&kind),
        "{from}: {said}"
    );
    assert!(!Path::new(to).exists(), "{from} left something behind");
    None
}

#[test]
fn every_committed_checkpoint_keeps_its_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let mut converted = 0;
    for (number, committed) in committed::all().iter().enumerate() {
        if committed.tensors.is_empty() {
            continue;
        }
        for (ending, more) in [
            (".safetensors", &[][..]),
            ("-shards", &["--shard-size", "300"]),
            (".pt", &[]),
        ] {
            let to = folder.path().join(format!("{number}{ending}"));
            let Some(said) = convert(&committed.path, &to, more) else {
                continue;
            };
            let found = hashes(&to);
            for (name, hash) in hashes(&committed.path) {
                // Of tied weights, safetensors files have one.
                let kept = said["tied"][&name].as_str().unwrap_or(&name);
                let stored = found.get(&name).or_else(|| found.get(kept));
                assert_eq!(stored, Some(&hash), "{}: {name}", committed.name);
            }
            converted += 1;
        }
    }
    assert!(converted > 150, "only {converted} conversions");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(
        left.len(),
        converted,
        "something is left beside the outputs"
    );
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    std::fs::write(&to, "precious").unwrap();
    let (from, out) = (path("tiny-model"), to.to_str().unwrap().to_owned());
    let refused = tensorlift(&["convert", &from, &out]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read(&to).unwrap(), b"precious");
    output(&["convert", &from, &out, "--force"]);
    assert_eq!(hashes(&to).len(), 40);
}

#[test]
fn tied_weights_are_stored_once_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    let said = convert(path("torch/views.pt").as_ref(), &to, &[]).unwrap();
    let (name, kept) = said["tied"].as_object().unwrap().iter().next().unwrap();
    let header = std::fs::read(&to).unwrap();
    let len = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&header[8..8 + len]).unwrap();
    assert_eq!(header["__metadata__"][name], *kept);
    assert_eq!(header["__metadata__"]["format"], "pt");
    assert!(header[name].is_null() && header[kept.as_str().unwrap()].is_object());
}

#[test]
fn a_root_gives_the_models_own_names() {
    let from = path("torch-objects/lightning.ckpt");
    let lines = output(&["inspect", &from, "--json", "--root", "auto"]);
    assert!(lines.starts_with("{\"name\":\"model."), "{lines}");
    let wrong = tensorlift(&["inspect", &from, "--root", "nowhere"]);
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert!(errors.contains("state_dict"), "{errors}");
    assert!(output(&["inspect", &from]).contains("--root state_dict"));
}

#[test]
fn the_state_is_printed_for_people_and_programs() {
    let from = path("torch-objects/training.pt");
    assert!(output(&["inspect", &from, "--state"]).contains("\nepoch: 3\n"));
    let state: Value =
        serde_json::from_str(&output(&["inspect", &from, "--state", "--json"])).unwrap();
    assert_eq!(state["epoch"], 3);
    let metadata = output(&["inspect", &path("tiny-model"), "--state"]);
    assert_eq!(metadata, "format: \"pt\"\n");
    let none = path("torch-objects/no_tensors.pt");
    assert_eq!(tensorlift(&["load", &none]).status.code(), Some(1));
}

#[test]
fn strict_refuses_what_is_no_plain_data() {
    let from = path("torch-objects/opaque.pt");
    assert!(tensorlift(&["inspect", &from]).status.success());
    let strict = tensorlift(&["inspect", &from, "--strict", "--json"]);
    let said: Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!(
        (strict.status.code(), &said["error"]["kind"]),
        (Some(1), &"unsupported".into())
    );
}

/// A PyTorch file in which `names` are one tensor.
fn tied(names: &[&str]) -> Vec<u8> {
    let spec = CheckpointSpec::new(Format::torch_zip()).storage(Dtype::F32, 4);
    let view = || StorageView {
        storage: 0,
        offset: 0,
        strides: vec![1],
        conjugated: false,
        negated: false,
    };
    names
        .iter()
        .fold(spec, |spec, name| spec.view(*name, [4], view()))
        .to_bytes()
}

#[test]
fn the_first_name_of_the_file_is_kept_and_the_others_stay_names() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        folder.path().join("a.pt"),
        folder.path().join("a.safetensors"),
    );
    for (names, more, kept) in [
        (
            &["model.embed.weight", "lm_head.weight"][..],
            &[][..],
            "model.embed.weight",
        ),
        (
            &["rnn._flat_weights.0", "rnn.weight_ih_l0"],
            &[],
            "rnn.weight_ih_l0",
        ),
        (&["b", "a", "c"], &["--keep", "c"], "c"),
    ] {
        std::fs::write(&from, tied(names)).unwrap();
        let said = convert(&from, &to, &[&["--force"], more].concat()).unwrap();
        assert_eq!(said["tensors"], 1);
        let ties = said["tied"].as_object().unwrap();
        assert_eq!(ties.len(), names.len() - 1);
        assert!(ties.values().all(|name| name == kept), "{said}");
        // All names are there again, as one tensor, and survive the way back.
        let found = hashes(&to);
        assert_eq!(found, hashes(&from));
        let back = folder.path().join("back.pt");
        let said = convert(&to, &back, &["--force"]).unwrap();
        assert_eq!((&said["tensors"], hashes(&back)), (&1.into(), found));
    }
    std::fs::write(&from, tied(&["b", "a"])).unwrap();
    let said = convert(&from, &to, &["--force", "--keep-all"]).unwrap();
    assert_eq!((&said["tensors"], &said["bytes"]), (&2.into(), &32.into()));
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let wrong = tensorlift(&["convert", from, to, "--force", "--keep", "x"]);
    assert_eq!(wrong.status.code(), Some(1));
}

#[test]
fn conversions_take_little_memory_beside_the_largest_tensor() {
    const LEN: u64 = 256 << 20;
    let folder = tempfile::tempdir().unwrap();
    let side = 1 << 13;
    for (strides, name) in [(vec![side, 1], "rows"), (vec![1, side], "columns")] {
        let view = StorageView {
            storage: 0,
            offset: 0,
            strides,
            conjugated: false,
            negated: false,
        };
        let spec = CheckpointSpec::new(Format::torch_zip())
            .storage(Dtype::F32, side * side)
            .view("w", [side, side], view);
        let from = folder.path().join(format!("{name}.pt"));
        std::fs::write(&from, spec.to_bytes()).unwrap();
        for end in ["safetensors", "pth"] {
            let to = folder.path().join(format!("{name}.{end}"));
            let said = convert(&from, &to, &[]).unwrap();
            assert_eq!(said["bytes"], LEN);
            let peak = said["peak_memory_bytes"].as_u64().unwrap();
            assert!(peak == 0 || peak < LEN + (64 << 20), "{name}.{end}: {peak}");
            assert_eq!(hashes(&to), hashes(&from));
            std::fs::remove_file(to).unwrap();
        }
        std::fs::remove_file(from).unwrap();
    }
}

#[test]
fn a_view_far_larger_than_its_storage_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let spread = |elements: usize| {
        let view = StorageView {
            storage: 0,
            offset: 0,
            strides: vec![0],
            conjugated: false,
            negated: false,
        };
        CheckpointSpec::new(Format::torch_zip())
            .storage(Dtype::U8, 1)
            .view("w", [elements], view)
            .to_bytes()
    };
    let from = folder.path().join("a.pt");
    std::fs::write(&from, spread(1 << 27)).unwrap();
    let to = folder.path().join("a.safetensors");
    let said = convert(&from, &to, &[]).unwrap();
    assert_eq!(said["bytes"], 1 << 27);
    let peak = said["peak_memory_bytes"].as_u64().unwrap();
    assert!(peak < 64 << 20, "{peak}");
    assert_eq!(hashes(&from), hashes(&to));
}
