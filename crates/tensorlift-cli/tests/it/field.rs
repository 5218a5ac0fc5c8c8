//! Files and folders as people reported them: what is loaded, what is said, and with what status.

use std::fs;
use std::path::Path;

use serde_json::Value;
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
