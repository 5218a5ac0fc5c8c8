//! What `inspect` shows beside tensors, and what `convert` changes and takes along.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorlift::Checkpoint;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use crate::{output, path, tensorlift};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tree_shows_modules_down_to_a_depth() {
    let model = path("tiny-model");
    let tree = output(&["inspect", &model, "--tree", "--depth", "2"]);
    let rows: Vec<&str> = tree.lines().collect();
    assert!(rows[1].starts_with("all"), "{tree}");
    assert!(rows.iter().any(|row| row.starts_with("  ")), "{tree}");
    assert!(rows.len() < 20, "{tree}");
    assert!(
        tree.contains("beside the weights: config.json, tokenizer.json"),
        "{tree}"
    );
    let deep = output(&["inspect", &model, "--tree"]);
    assert!(deep.lines().count() > 40, "{deep}");
}

#[test]
fn a_summary_is_one_line_and_a_selection_is_what_matches() {
    let model = path("tiny-model");
    let line = output(&["inspect", &model, "--summary"]);
    assert!(
        line.starts_with("tensors=40 ") && line.lines().count() == 1,
        "{line}"
    );
    assert!(
        line.contains("bytes=93440") && line.contains("files=1"),
        "{line}"
    );
    let object: Value =
        serde_json::from_str(&output(&["inspect", &model, "--summary", "--json"])).unwrap();
    assert_eq!(
        (
            &object["tensors"],
            &object["companions"].as_array().unwrap().len()
        ),
        (&40.into(), &2)
    );

    let listed = output(&["inspect", &model, "--json", "--select", "*.bias"]);
    let names = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut names = names.map(|line| line["name"].as_str().unwrap().to_owned());
    assert!(names.clone().count() > 0 && names.all(|name| name.ends_with(".bias")));
    let report: Value =
        serde_json::from_str(&output(&["load", &model, "--json", "--select", "*.bias"])).unwrap();
    assert_eq!(
        report["tensors"].as_u64().unwrap() as usize,
        listed.lines().count()
    );
    let nothing = tensorlift(&["load", &model, "--select", "no.such"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn metadata_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"__metadata__":{"format":"pt","from":"a\u001b[31m place"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.push(7);
    let file = folder.path().join("model.safetensors");
    fs::write(&file, bytes).unwrap();
    let shown = output(&["inspect", text(&file)]);
    assert!(
        shown.contains("metadata\n  format: pt\n  from: a"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("in");
    fs::create_dir(&from).unwrap();
    let spec = CheckpointSpec::new(Format::safetensors())
        .tensor("model.a.weight", Dtype::F32, [3, 5])
        .tensor("model.b.weight", Dtype::F32, [7])
        .tensor("model.step", Dtype::I64, [2]);
    spec.write(&from).unwrap();
    fs::write(from.join("config.json"), "{}").unwrap();
    fs::write(from.join("tokenizer.model"), "x").unwrap();
    fs::write(from.join(".hidden.json"), "x").unwrap();
    (folder, from)
}

#[test]
fn a_conversion_renames_converts_selects_and_takes_companions_along() {
    let (folder, from) = model();
    let to = folder.path().join("out");
    let arguments = ["convert", text(&from), text(&to), "--json"];
    let options = [
        "--rename",
        "model.*=*",
        "--dtype",
        "bf16",
        "--select",
        "*.weight",
    ];
    let written: Value =
        serde_json::from_str(&output(&[&arguments[..], &options].concat())).unwrap();
    assert_eq!(
        (&written["tensors"], &written["bytes"]),
        (&2.into(), &44.into())
    );
    assert_eq!(written["companions"].as_array().unwrap().len(), 2);
    for name in ["config.json", "tokenizer.model", "model.safetensors"] {
        assert!(to.join(name).is_file(), "{name}");
    }
    assert!(!to.join(".hidden.json").exists());
    let converted = Checkpoint::open(&to).unwrap();
    let forms = converted
        .catalog()
        .entries()
        .iter()
        .map(|entry| (entry.name(), entry.dtype()));
    let forms: Vec<_> = forms.collect();
    assert_eq!(
        forms,
        [("a.weight", Dtype::BF16), ("b.weight", Dtype::BF16)]
    );
    // The values are those that a load converts to.
    let options = tensorlift::LoadOptions::default();
    let options = options.dtype(tensorlift::DtypePolicy::To(Dtype::BF16));
    let original = Checkpoint::open(&from)
        .unwrap()
        .loader()
        .options(options)
        .load()
        .unwrap();
    let loaded = converted.loader().load().unwrap();
    let bytes = |loaded: &tensorlift::Loaded, name| {
        loaded.tensor(name).unwrap().as_bytes().unwrap().to_vec()
    };
    assert_eq!(
        bytes(&loaded, "a.weight"),
        bytes(&original, "model.a.weight")
    );

    // What is in the way stays as it is.
    fs::write(to.join("config.json"), "mine").unwrap();
    output(&["convert", text(&from), text(&to), "--force"]);
    assert_eq!(fs::read_to_string(to.join("config.json")).unwrap(), "mine");
    let twice = ["--rename", "model.a.weight=model.b.weight"];
    let other = folder.path().join("other");
    let refused = tensorlift(&[&["convert", text(&from), text(&other)], &twice[..]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(!other.exists());
}

#[test]
fn endings_of_other_formats_and_misspelt_ones_are_refused() {
    let (folder, from) = model();
    for name in [
        "a.gguf",
        "a.onnx",
        "a.npz",
        "a.h5",
        "a.msgpack",
        "a.pkl",
        "a.safetensor",
    ] {
        let to = folder.path().join(name);
        let refused = tensorlift(&["convert", text(&from), text(&to)]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(!to.exists());
    }
    output(&[
        "convert",
        text(&from),
        text(&folder.path().join("model-v1.5")),
    ]);
    for size in ["1GB", "5G", "0.5GB", "512MiB"] {
        let to = folder.path().join(size);
        output(&["convert", text(&from), text(&to), "--shard-size", size]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_conversion_leaves_nothing_behind() {
    // 256 MiB of zeros that take no room.
    const BYTES: u64 = 256 << 20;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{BYTES}],"data_offsets":[0,{BYTES}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(&file, &bytes).unwrap();
    let written = fs::OpenOptions::new().write(true).open(&file).unwrap();
    written.set_len(bytes.len() as u64 + BYTES).unwrap();

    let to = folder.path().join("out.pt");
    let mut command = crate::program();
    let mut child = command
        .args(["convert", text(&file), text(&to)])
        .spawn()
        .unwrap();
    let is_scratch = |entry: fs::DirEntry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with(".tensorlift-")
    };
    let begun = || {
        fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .any(is_scratch)
    };
    while !begun() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it began to write"
        );
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .unwrap();
    assert!(sent.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{status}");
    assert!(!begun() && !to.exists());
}
