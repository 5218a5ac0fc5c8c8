//! Folders as people have them: what is left out and taken along, odd names of files, and what is
//! there in place of a checkpoint.

use serde_json::json;

use super::indexes::{loads, shard, shard_of};
use super::parts::archive;
use super::{Case, CaseFile, Verdict};
use crate::zip::{RawArchive, RawEntry};

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

/// Adds folders without a fault in any file that is loaded.
pub(super) fn add(all: &mut Vec<Case>) {
    left_out(all);
    names(all);
    instead(all);
}

/// Files below the folder that is opened.
type Files = Vec<(&'static str, Vec<u8>)>;

fn case(all: &mut Vec<Case>, name: &str, why: &str, verdict: Verdict, files: Files) {
    let file = |(path, bytes): (&str, Vec<u8>)| CaseFile {
        path: format!("checkpoint/{path}"),
        bytes,
    };
    let files: Vec<CaseFile> = files.into_iter().map(file).collect();
    all.push(Case {
        name: format!("folder-{name}"),
        file_name: "checkpoint".to_owned(),
        verdict,
        why: why.to_owned(),
        make: Box::new(move || files.clone()),
    });
}

fn index(map: &serde_json::Value) -> Vec<u8> {
    json!({ "weight_map": map }).to_string().into_bytes()
}

/// What is near and not loaded: the rest loads, and a reader names it.
fn left_out(all: &mut Vec<Case>) {
    let index_of_one = || index(&json!({ "a": ONE }));
    let cases: [(&str, &str, Files); 6] = [
        (
            "index-of-one",
            "the index lists the first of two shards",
            vec![
                (ONE, shard("a")),
                (TWO, shard("b")),
                ("model.safetensors.index.json", index_of_one()),
            ],
        ),
        (
            "other-file",
            "the index lists one of two files whose names have no number",
            vec![
                ("x.safetensors", shard("a")),
                ("y.safetensors", shard("b")),
                (
                    "model.safetensors.index.json",
                    index(&json!({ "a": "x.safetensors" })),
                ),
            ],
        ),
        (
            "adapter",
            "an adapter is beside the model",
            vec![
                ("model.safetensors", shard("a")),
                ("adapter_model.safetensors", shard("b")),
            ],
        ),
        (
            "training-state",
            "the state of a training run is beside the model",
            vec![
                ("model.safetensors", shard("a")),
                ("optimizer.pt", archive().bytes()),
                ("rng_state.pth", archive().bytes()),
            ],
        ),
        (
            "subfolder",
            "a folder in the folder has weights too",
            vec![
                ("model.safetensors", shard("a")),
                ("old/step-10/model.safetensors", shard("b")),
            ],
        ),
        (
            "other-series",
            "a whole series of PyTorch files is beside the model",
            vec![
                ("model.safetensors", shard("a")),
                ("pytorch_model-00001-of-00002.bin", archive().bytes()),
                ("pytorch_model-00002-of-00002.bin", archive().bytes()),
            ],
        ),
    ];
    for (name, why, files) in cases {
        case(all, name, why, loads(&["a"]), files);
    }
}

/// Names of files.
fn names(all: &mut Vec<Case>) {
    let series: [(&str, &str, &[&str], bool); 14] = [
        ("plain", "a series without an index", &[ONE, TWO], true),
        (
            "from-zero",
            "a series that begins at 0",
            &[
                "model-00000-of-00002.safetensors",
                "model-00001-of-00002.safetensors",
            ],
            true,
        ),
        (
            "one-from-zero",
            "a series of one file, numbered 0",
            &["model-00000-of-00001.safetensors"],
            true,
        ),
        (
            "padding",
            "number and count are not padded alike",
            &["model-1-of-00002.safetensors", "model-02-of-2.safetensors"],
            true,
        ),
        (
            "separators",
            "a series with other separators in each name",
            &["model_1_of_2.safetensors", "model.2-of-2.safetensors"],
            true,
        ),
        (
            "upper-case",
            "an extension in upper case",
            &[
                "model-00001-of-00002.SAFETENSORS",
                "model-00002-of-00002.safetensors",
            ],
            true,
        ),
        (
            "extension-twice",
            "the extension is before the number too",
            &[
                "model.safetensors-00001-of-00002.safetensors",
                "model.safetensors-00002-of-00002.safetensors",
            ],
            true,
        ),
        ("gap", "the second of a series is missing", &[ONE], false),
        (
            "gap-from-zero",
            "the middle of a series from 0 is missing",
            &[
                "model-00000-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
            ],
            false,
        ),
        (
            "one-too-many",
            "a series has the number 0 and its count",
            &["model-00000-of-00002.safetensors", ONE, TWO],
            false,
        ),
        (
            "number-twice",
            "two files have one number",
            &[ONE, "model-1-of-2.safetensors", TWO],
            false,
        ),
        (
            "two-counts",
            "two series of one name have other counts",
            &[ONE, TWO, "model-00001-of-00001.safetensors"],
            false,
        ),
        (
            "several",
            "two files without anything that prefers one",
            &["x.safetensors", "y.safetensors"],
            false,
        ),
        (
            "consolidated",
            "parts of a model for several processes, which nothing joins",
            &["consolidated.00.safetensors", "consolidated.01.safetensors"],
            false,
        ),
    ];
    for (name, why, files, is_one) in series {
        let letters = ["a", "b", "c"];
        let verdict = match is_one {
            true => loads(&letters[..files.len()]),
            false => Verdict::Refused,
        };
        let files = files.iter().copied().zip(letters.map(shard)).collect();
        case(all, &format!("series-{name}"), why, verdict, files);
    }
    for (name, file) in [
        ("th", "955717e8.th"),
        ("pth-tar", "model_best.pth.tar"),
        ("tar", "weights.tar"),
        ("t7", "net.t7"),
        ("ot", "model.ot"),
        ("pkl", "model.pkl"),
        ("none", "weights"),
        ("sft", "lora.sft"),
    ] {
        let why = format!("the only file is called {file}; its bytes say what it is");
        let files = vec![(file, shard("a")), ("README.md", b"# a model".to_vec())];
        case(
            all,
            &format!("extension-{name}"),
            &why,
            loads(&["a"]),
            files,
        );
    }
    case(
        all,
        "copies",
        "each shard has a copy of one tensor, and the index says whose counts",
        loads(&["a", "b"]),
        vec![
            (ONE, shard("a")),
            (TWO, shard_of(&["b", "a"])),
            (
                "model.safetensors.index.json",
                index(&json!({ "a": ONE, "b": TWO })),
            ),
        ],
    );
    case(
        all,
        "two-indexes",
        "two indexes, and nothing that prefers one",
        Verdict::Refused,
        vec![
            ("1.safetensors", shard("a")),
            ("2.safetensors", shard("b")),
            (
                "x.safetensors.index.json",
                index(&json!({ "a": "1.safetensors" })),
            ),
            (
                "y.safetensors.index.json",
                index(&json!({ "b": "2.safetensors" })),
            ),
        ],
    );
}

/// What is there in place of a checkpoint.
fn instead(all: &mut Vec<Case>) {
    let safetensors = shard("a");
    let torch = archive().bytes();
    let half = |bytes: &[u8]| bytes.len() / 2;
    let zeros_last = |bytes: &[u8]| {
        let zeros = vec![0; bytes.len() - half(bytes)];
        [&bytes[..half(bytes)], &zeros].concat()
    };
    let zeros_first = |bytes: &[u8]| [&vec![0; half(bytes)], &bytes[half(bytes)..]].concat();
    let zip = RawArchive {
        entries: vec![RawEntry::stored("model/model.safetensors", &safetensors)],
        ..RawArchive::default()
    };
    let mut gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    gzip.extend_from_slice(&safetensors);
    let cases: [(&str, &str, Files); 14] = [
        (
            "empty",
            "nothing is there but a note",
            vec![("README.md", Vec::new())],
        ),
        (
            "zeros-first",
            "the first half of the file is zero",
            vec![("model.safetensors", zeros_first(&safetensors))],
        ),
        (
            "zeros-last",
            "the second half of an archive is zero",
            vec![("pytorch_model.bin", zeros_last(&torch))],
        ),
        (
            "zeros-first-in-archive",
            "the first half of an archive is zero",
            vec![("pytorch_model.bin", zeros_first(&torch))],
        ),
        (
            "end-alone",
            "the beginning of an archive is missing",
            vec![("pytorch_model.bin", torch[half(&torch)..].to_vec())],
        ),
        (
            "zip-around",
            "the checkpoint is in a zip archive",
            vec![("model.zip", zip.bytes())],
        ),
        (
            "zip-around-as-bin",
            "the checkpoint is in a zip archive that is called one",
            vec![("pytorch_model.bin", zip.bytes())],
        ),
        (
            "gzip-around",
            "the checkpoint is compressed",
            vec![("model.safetensors.gz", gzip.clone())],
        ),
        (
            "gzip-around-as-itself",
            "the checkpoint is compressed and called as before",
            vec![("model.safetensors", gzip)],
        ),
        (
            "part",
            "the download has not ended",
            vec![("model.safetensors.part", safetensors[..40].to_vec())],
        ),
        (
            "distributed",
            "a distributed checkpoint",
            vec![
                ("__0_0.distcp", torch.clone()),
                ("__1_0.distcp", torch.clone()),
                (".metadata", b"\x80\x02}.".to_vec()),
            ],
        ),
        (
            "gguf",
            "a model of another program",
            vec![("model.Q4_K.gguf", b"GGUF\x03\0\0\0".to_vec())],
        ),
        (
            "deeper",
            "the checkpoint is in a folder of the folder",
            vec![("run/last/model.safetensors", safetensors)],
        ),
        (
            "cut-series",
            "the second shard is cut",
            vec![(ONE, shard("a")), (TWO, shard("b")[..20].to_vec())],
        ),
    ];
    for (name, why, files) in cases {
        case(
            all,
            &format!("instead-{name}"),
            why,
            Verdict::Refused,
            files,
        );
    }
}
