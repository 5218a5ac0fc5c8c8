//! Files and folders as people reported them: what is loaded, what is said, and with what status.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tensorlift_fixture_kit::torch::ZipOptions;
use tensorlift_fixture_kit::zip::ArchiveWriter;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use super::tensorlift;

/// A file of these tensors, one byte each.
fn file(format: Format, names: &[&str]) -> Vec<u8> {
    let spec = CheckpointSpec::new(format);
    let spec = names
        .iter()
        .fold(spec, |spec, name| spec.tensor(*name, Dtype::U8, [1]));
    spec.to_bytes()
}

fn safetensors(names: &[&str]) -> Vec<u8> {
    file(Format::safetensors(), names)
}

fn torch(names: &[&str]) -> Vec<u8> {
    file(Format::torch_zip(), names)
}

/// A zip archive of one entry of this name.
fn archive(name: &str) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Vec::new(), 64);
    archive.entry(name, b"pt2").unwrap();
    archive.finish().unwrap()
}

/// A PyTorch file of dicts: each part of a name but the last is the key of one.
fn nested(names: &[&str]) -> Vec<u8> {
    let nested = ZipOptions {
        nested: true,
        ..ZipOptions::default()
    };
    file(Format::TorchZip(nested), names)
}

/// An index that puts these tensors into these shards.
fn index(map: &[(&str, &str)]) -> Vec<u8> {
    let map: serde_json::Map<String, Value> = map
        .iter()
        .map(|(name, shard)| ((*name).to_owned(), (*shard).into()))
        .collect();
    serde_json::json!({ "weight_map": map })
        .to_string()
        .into_bytes()
}

/// A folder with these files in it.
fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// The names of the tensors, and standard error, of a run that succeeds.
fn inspect(target: &Path, more: &[&str]) -> (Vec<String>, String) {
    let arguments = [&["inspect", "--json", target.to_str().unwrap()], more].concat();
    let run = tensorlift(&arguments);
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{arguments:?}: {errors}");
    let lines = String::from_utf8(run.stdout).unwrap();
    let name = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["name"].as_str().unwrap().to_owned()
    };
    (lines.lines().map(name).collect(), errors)
}

/// The report of a load that succeeds.
fn load(target: &Path, more: &[&str]) -> Value {
    let arguments = [&["load", "--json", target.to_str().unwrap()], more].concat();
    let run = tensorlift(&arguments);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The error of a run that is refused.
fn refused(arguments: &[&str]) -> Value {
    let run = tensorlift(arguments);
    assert_eq!(run.status.code(), Some(1), "{arguments:?}");
    let said: Value = serde_json::from_slice(&run.stdout).unwrap();
    said["error"].clone()
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn what_an_index_leaves_out_is_named() {
    let there = folder(&[
        (ONE, safetensors(&["a"])),
        (TWO, safetensors(&["b"])),
        (INDEX, index(&[("a", ONE)])),
        ("original/consolidated.00.pth", torch(&["c"])),
    ]);
    let (names, said) = inspect(there.path(), &[]);
    assert_eq!(names, ["a"]);
    assert!(said.contains(TWO) && said.contains("--no-index"), "{said}");
    assert!(said.contains("original"), "{said}");
    let report = load(there.path(), &[]);
    let passed_over = report["choice"]["passed_over"].as_array().unwrap();
    assert_eq!(passed_over.len(), 2, "{report}");
    // The remedies work.
    assert_eq!(inspect(there.path(), &["--no-index"]).0, ["a", "b"]);
    assert_eq!(inspect(there.path(), &["--files", TWO, ONE]).0, ["b", "a"]);
    assert_eq!(inspect(&there.path().join("original"), &[]).0, ["c"]);
    assert_eq!(inspect(there.path(), &["--index", INDEX]).0, ["a"]);
    // A part alone has a sibling.
    let (names, said) = inspect(&there.path().join(ONE), &[]);
    assert_eq!(names, ["a"]);
    assert!(said.contains(TWO), "{said}");
}

#[test]
fn folders_with_weights_are_named_however_deep() {
    let mut files = vec![
        ("model.safetensors", safetensors(&["a"])),
        ("runs/one/last/model.safetensors", safetensors(&["b"])),
        ("old/955717e8.th", torch(&["c"])),
        ("onnx/model.onnx", b"\x08\x07\x12\x07pytorch".to_vec()),
        ("late/zz.safetensors", safetensors(&["d"])),
    ];
    let many: Vec<String> = (0..300)
        .map(|number| format!("late/{number}.json"))
        .collect();
    files.extend(many.iter().map(|name| (name.as_str(), b"{}".to_vec())));
    let empty: Vec<String> = (0..70).map(|number| format!("a{number}/x.txt")).collect();
    files.extend(empty.iter().map(|name| (name.as_str(), Vec::new())));
    let there = folder(&files);
    let (names, said) = inspect(there.path(), &[]);
    assert_eq!(names, ["a"]);
    for (below, tensors) in [("runs/one/last", "b"), ("old", "c"), ("late", "d")] {
        let path = there.path().join(below);
        assert!(said.contains(path.to_str().unwrap()), "{below}: {said}");
        // The remedy works.
        assert_eq!(inspect(&path, &[]).0, [tensors]);
    }
    assert!(said.contains("model.onnx (format not supported)"), "{said}");
    let report = load(there.path(), &[]);
    assert_eq!(report["choice"]["passed_over"].as_array().unwrap().len(), 4);
}

#[test]
fn parts_of_each_named_file_are_named() {
    let there = folder(&[
        ("x-1.safetensors", safetensors(&["a"])),
        ("x-2.safetensors", safetensors(&["b"])),
        ("y-1.safetensors", safetensors(&["c"])),
        ("y-2.safetensors", safetensors(&["d"])),
    ]);
    let files = ["--files", "x-1.safetensors", "y-1.safetensors"];
    let (names, said) = inspect(there.path(), &files);
    assert_eq!(names, ["a", "c"]);
    assert!(said.contains("x-2") && said.contains("y-2"), "{said}");
}

#[test]
fn tensors_outside_of_the_root_and_other_models_are_named() {
    let names = [
        "state_dict.w",
        "state_dict.b",
        "state_dict_ema.w",
        "optimizer.m",
    ];
    let there = folder(&[("a.pt", nested(&names))]);
    let path = there.path().join("a.pt");
    // Without a root, all is loaded, and the paths of both models are said.
    let (found, said) = inspect(&path, &[]);
    assert_eq!(found, names);
    assert!(said.contains("--root state_dict)"), "{said}");
    assert!(said.contains("--root state_dict_ema)"), "{said}");
    let run = tensorlift(&["load", "--json", path.to_str().unwrap()]);
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("--root state_dict_ema)"), "{said}");
    for (root, tensors, other, outside) in [
        ("auto", &["w", "b"][..], "state_dict_ema", 2),
        ("state_dict_ema", &["w"], "state_dict", 3),
    ] {
        let root = ["--root", root];
        let (found, said) = inspect(&path, &root);
        assert_eq!(found, tensors);
        assert!(said.contains(&format!("--root {other})")), "{said}");
        assert!(
            said.contains(&format!("{outside} tensors outside")),
            "{said}"
        );
        let passed_over = load(&path, &root)["choice"]["passed_over"].to_string();
        assert!(passed_over.contains(other), "{passed_over}");
        // The remedy works.
        assert!(!inspect(&path, &["--root", other]).0.is_empty());
    }
}

#[test]
fn wrappers_are_taken_off_in_any_nesting_and_format() {
    for names in [
        &["module._orig_mod.a.w", "module._orig_mod.b.w"][..],
        &["a._orig_mod.w", "b._checkpoint_wrapped_module.w"],
        &[
            "_fsdp_wrapped_module.a._fsdp_wrapped_module.w",
            "_fsdp_wrapped_module.b.w",
        ],
    ] {
        for (end, bytes) in [("safetensors", safetensors(names)), ("pt", torch(names))] {
            let name = format!("a.{end}");
            let there = folder(&[(&name, bytes)]);
            let (found, _) = inspect(&there.path().join(&name), &["--root", "auto"]);
            assert_eq!(found, ["a.w", "b.w"], "{names:?}");
        }
    }
}

#[test]
fn what_is_taken_along_is_named() {
    let there = folder(&[
        (ONE, safetensors(&["a", "b", "extra"])),
        (TWO, safetensors(&["b", "c"])),
        (INDEX, index(&[("a", ONE), ("b", TWO), ("c", TWO)])),
    ]);
    let report = load(there.path(), &[]);
    assert_eq!(report["tensors"], 4);
    let unlisted = report["choice"]["unlisted"].as_array().unwrap();
    assert!(unlisted.len() == 1 && unlisted[0].as_str().unwrap().contains("\"extra\""));
    let copies = report["choice"]["passed_over"].as_array().unwrap();
    assert!(copies.len() == 1 && copies[0]["what"].as_str().unwrap().contains("\"b\""));
    let (names, said) = inspect(there.path(), &[]);
    assert_eq!(names, ["a", "extra", "b", "c"]);
    assert!(
        said.contains("\"extra\" in") && said.contains("\"b\" in"),
        "{said}"
    );
    // Without the index, nothing settles which `b` counts.
    let error = refused(&[
        "load",
        "--json",
        "--no-index",
        there.path().to_str().unwrap(),
    ]);
    assert_eq!(error["kind"], "malformed");
}

#[test]
fn names_are_taken_as_they_are() {
    for (files, tensors) in [
        (
            &[
                "model-00000-of-00002.safetensors",
                "model-00001-of-00002.safetensors",
            ][..],
            2,
        ),
        (
            &[
                "model-00001-of-000002.safetensors",
                "model-00002-of-000002.safetensors",
            ],
            2,
        ),
        (&["model_1_of_2.safetensors", "model.2-of-2.safetensors"], 2),
        (
            &[
                "00001-of-00002-model.safetensors",
                "2-of-2.model.safetensors",
            ],
            2,
        ),
        (&["model-00000-of-00001.safetensors"], 1),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|name| (*name, safetensors(&[*name])))
            .collect();
        assert_eq!(inspect(folder(&files).path(), &[]).0.len(), tensors);
    }
    let legacy = || file(Format::torch_legacy(), &["a"]);
    for name in [
        "model_best.pth.tar",
        "955717e8.th",
        "a.t7",
        "a.ot",
        "a.pkl",
        "a.model",
        "a.ckpt.0",
        "weights",
    ] {
        for bytes in [torch(&["a"]), legacy(), safetensors(&["a"])] {
            let there = folder(&[(name, bytes), ("README.md", b"# a".to_vec())]);
            assert_eq!(inspect(there.path(), &[]).0, ["a"], "{name}");
        }
    }
    let two = folder(&[
        ("consolidated.00.pth", torch(&["a"])),
        ("consolidated.01.pth", torch(&["b"])),
    ]);
    let error = refused(&["load", "--json", two.path().to_str().unwrap()]);
    assert!(
        error["remedy"].as_str().unwrap().contains("--files"),
        "{error}"
    );
    let files = ["--files", "consolidated.00.pth", "consolidated.01.pth"];
    assert_eq!(inspect(two.path(), &files).0, ["a", "b"]);
}

#[test]
fn causes_follow_from_what_was_seen() {
    let good = torch(&["a"]);
    let zeros = |count: usize| vec![0; count];
    let half = [&good[..good.len() / 2], &zeros(good.len() - good.len() / 2)].concat();
    let mut tar = zeros(512);
    tar[..5].copy_from_slice(b"ok.pt");
    tar[124..135].copy_from_slice(format!("{:011o}", good.len()).as_bytes());
    tar[156] = b'0';
    tar[257..262].copy_from_slice(b"ustar");
    tar[148..156].fill(b' ');
    let sum: u32 = tar.iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(&good);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let cut = |bytes: Vec<u8>, at: usize| bytes[..bytes.len() - at].to_vec();
    // Header and data: what the whole file would have.
    let whole = format!("{} bytes", safetensors(&["a", "b"]).len());
    for (name, bytes, found, remedy) in [
        (
            "a.safetensors",
            [zeros(4096), vec![7; 99]].concat(),
            "begins with 4096 zero",
            "fetch",
        ),
        ("b.safetensors", zeros(4096), "nothing but zero", "fetch"),
        ("c.ckpt", half, "bytes are zero", "fetch"),
        ("d.tar", tar, "\"ok.pt\"", "unpack it"),
        ("e.safetensors", b"a notice".to_vec(), "a text", "check"),
        (
            "f.pt",
            good[100..].to_vec(),
            "whose beginning is missing",
            "fetch",
        ),
        (
            "l.pt",
            [b"#!/bin/sh\n".to_vec(), good.clone()].concat(),
            "begins at byte 10, behind other bytes",
            "tail -c",
        ),
        ("m.pt", cut(good.clone(), 10), "was cut short at", "fetch"),
        (
            "n.safetensors",
            [zeros(8), safetensors(&["a"])[8..].to_vec()].concat(),
            "bytes 0..8 of the file are zero",
            "fetch",
        ),
        (
            "g.bin",
            b"\x1f\x8b\x08\0\0\0\0\0".to_vec(),
            "gzip",
            "unpack",
        ),
        (
            "h.safetensors",
            cut(safetensors(&["a", "b"]), 1),
            &whole,
            "fetch",
        ),
        ("i.bin", Vec::new(), "empty", "fetch"),
        (
            "j.pt2",
            archive("model/archive_format"),
            "a torch.export archive",
            "",
        ),
        (
            "k.pt",
            archive("package/.data/extern_modules"),
            "a torch.package archive",
            "",
        ),
    ] {
        let there = folder(&[(name, bytes)]);
        let path = there.path().join(name);
        let error = refused(&["inspect", "--json", path.to_str().unwrap()]);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(found), "{name}: {message}");
        assert!(
            error["remedy"].as_str().unwrap().contains(remedy),
            "{name}: {error}"
        );
    }
}

#[test]
fn meta_tensors_are_named_by_loads() {
    let target = super::path("torch/meta.pt");
    let run = tensorlift(&["load", "--json", &target]);
    assert!(run.status.success());
    let notes = String::from_utf8(run.stderr).unwrap();
    assert!(
        notes.contains("3 tensors") && notes.contains("\"meta_half\""),
        "{notes}"
    );
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["tensors"], 1);
    let passed_over = report["choice"]["passed_over"].to_string();
    assert!(passed_over.contains("meta_half"), "{passed_over}");
}

#[test]
fn folders_of_other_makers_are_called_by_their_names() {
    let there = folder(&[("__0_0.distcp", torch(&["a"])), (".metadata", Vec::new())]);
    let error = refused(&["load", "--json", there.path().to_str().unwrap()]);
    assert!(
        error["message"].as_str().unwrap().contains("distributed"),
        "{error}"
    );
    assert!(
        error["remedy"].as_str().unwrap().contains("dcp_to_torch"),
        "{error}"
    );
    let below = folder(&[("step_10/__0_0.distcp", torch(&["a"]))]);
    let error = refused(&["load", "--json", below.path().to_str().unwrap()]);
    assert!(error["remedy"].as_str().unwrap().contains("dcp_to_torch"));
    let export = folder(&[("a.pt2", archive("model/archive_format"))]);
    let error = refused(&["load", "--json", export.path().to_str().unwrap()]);
    assert!(
        error["remedy"]
            .as_str()
            .unwrap()
            .contains("torch.export.load")
    );
    let begun = folder(&[(
        "model.safetensors.incomplete",
        safetensors(&["a"])[..50].to_vec(),
    )]);
    let error = refused(&["load", "--json", begun.path().to_str().unwrap()]);
    assert!(
        error["remedy"].as_str().unwrap().contains("cut short"),
        "{error}"
    );
    let there = folder(&[("a.gguf", b"GGUF".to_vec())]);
    let error = refused(&["load", "--json", there.path().to_str().unwrap()]);
    assert_eq!(error["kind"], "unsupported");
    // No variant is there, and none is listed.
    let there = folder(&[("model.safetensors", safetensors(&["a"]))]);
    let error = refused(&[
        "load",
        "--json",
        "--variant",
        "fp16",
        there.path().to_str().unwrap(),
    ]);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("only files without a variant"),
        "{message}"
    );
}

#[test]
fn weights_in_a_folder_of_a_snapshot_are_no_missing_download() {
    let commit = "1".repeat(40);
    let snapshot = format!("hub/models--org--model/snapshots/{commit}/a/b/model.safetensors");
    let home = folder(&[
        (&snapshot, safetensors(&["a"])),
        ("hub/models--org--model/refs/main", commit.into_bytes()),
    ]);
    let mut command = super::program();
    let run = command.args(["inspect", "--json", "org/model"]);
    let run = run.env("HF_HOME", home.path()).output().unwrap();
    let said: Value = serde_json::from_slice(&run.stdout).unwrap();
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("a/b"), "{message}");
    assert!(!message.contains("incomplete"), "{message}");
}

#[test]
fn an_archive_is_whole_or_refused() {
    let (one, two) = (torch(&["a"]), torch(&["b"]));
    let legacy = file(Format::torch_legacy(), &["a"]);
    let mut magic = legacy.clone();
    magic[8] ^= 1;
    let behind = |bytes: &[u8]| [&one[..], bytes].concat();
    for (bytes, is_read) in [
        (behind(b""), true),
        (behind(&[0; 100]), true),
        (behind(b"\n"), true),
        (behind(&two), false),
        (behind(&two[two.len() - 98..]), false),
        ([&legacy[..], b"\n"].concat(), true),
        ([&legacy[..], &legacy].concat(), false),
        ([&legacy[..], &two].concat(), false),
        (magic, false),
    ] {
        let there = folder(&[("a.pt", bytes)]);
        let path = there.path().join("a.pt");
        let target = path.to_str().unwrap();
        match is_read {
            true => assert_eq!(inspect(&path, &[]).0, ["a"]),
            false => {
                let error = refused(&["inspect", "--json", target]);
                assert_eq!(error["kind"], "malformed", "{error}");
            }
        }
    }
    // Bytes that nothing claims are named, and refused where that is asked for.
    let there = folder(&[("a.pt", behind(b"\n"))]);
    let target = there.path().join("a.pt");
    let said = inspect(&target, &[]).1;
    assert!(
        said.contains("1 byte at byte") && said.contains("--strict"),
        "{said}"
    );
    refused(&["inspect", "--json", "--strict", target.to_str().unwrap()]);
}

#[test]
fn a_limit_can_be_raised() {
    let long = "n".repeat(70_000);
    let there = folder(&[("model.safetensors", safetensors(&[&long]))]);
    let target = there.path().to_str().unwrap();
    let error = refused(&["inspect", "--json", target]);
    assert_eq!(error["kind"], "limit_exceeded");
    assert_eq!(
        inspect(there.path(), &["--limit", "name_bytes=70000"]).0,
        [long]
    );
    let wrong = tensorlift(&["inspect", target, "--limit", "names=7"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn nothing_checked_is_not_called_right() {
    let there = folder(&[("model.safetensors", safetensors(&["a"]))]);
    let run = tensorlift(&["load", "--verify", there.path().to_str().unwrap()]);
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(
        said.contains("no CRC-32 was checked") && !said.contains("right"),
        "{said}"
    );
}
