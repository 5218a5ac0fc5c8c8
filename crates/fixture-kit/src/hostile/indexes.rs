use serde_json::json;

use super::parts::expected;
use super::{Case, CaseFile, Verdict};
use crate::ExpectedTensor;
use crate::safetensors::raw_file;
use tensorlift_tensor_meta::Dtype;

const INDEX: &str = "model.safetensors.index.json";

/// Adds folders of shards whose index does not fit them.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut add = |name: &str, why: &str, verdict, files: Vec<(&str, Vec<u8>)>| {
        let files: Vec<CaseFile> = files
            .into_iter()
            .map(|(path, bytes)| CaseFile {
                path: path.to_owned(),
                bytes,
            })
            .collect();
        all.push(Case {
            name: format!("index-{name}"),
            file_name: "checkpoint".to_owned(),
            verdict,
            why: why.to_owned(),
            make: Box::new(move || files.clone()),
        });
    };
    let first = ("checkpoint/1.safetensors", shard("a"));
    let second = ("checkpoint/2.safetensors", shard("b"));
    let sound = json!({"a": "1.safetensors", "b": "2.safetensors"});
    let folder = |map: serde_json::Value| vec![index(map), first.clone(), second.clone()];
    add(
        "sound",
        "nothing is wrong",
        loads(&["a", "b"]),
        folder(sound.clone()),
    );
    add(
        "total-size-lies",
        "the total size in the index is wrong, as it often is",
        loads(&["a", "b"]),
        vec![
            raw(&json!({"metadata": {"total_size": 7}, "weight_map": sound.clone()}).to_string()),
            first.clone(),
            second.clone(),
        ],
    );
    add(
        "no-metadata",
        "the index has no metadata",
        loads(&["a", "b"]),
        vec![
            raw(&json!({"weight_map": sound.clone()}).to_string()),
            first.clone(),
            second.clone(),
        ],
    );

    for (name, why, target) in [
        (
            "parent",
            "a shard lies in the folder above",
            "../outside.safetensors",
        ),
        (
            "parent-within",
            "a shard's path goes up and down again",
            "x/../../outside.safetensors",
        ),
        ("absolute", "a shard has an absolute path", "/dev/zero"),
        (
            "absolute-file",
            "a shard is a file of the system",
            "/etc/passwd",
        ),
        (
            "backslash",
            "a shard lies in the folder above, with a backslash",
            "..\\outside.safetensors",
        ),
        (
            "drive",
            "a shard has a path with a drive",
            "C:\\outside.safetensors",
        ),
        (
            "home",
            "a shard lies in the home folder",
            "~/outside.safetensors",
        ),
        (
            "encoded",
            "a shard's dots are percent-encoded",
            "%2e%2e/outside.safetensors",
        ),
        ("empty-name", "a shard has no name", ""),
        ("dot", "a shard is the folder itself", "."),
        ("dot-dot", "a shard is the folder above", ".."),
        (
            "nul",
            "a shard's name has a NUL byte",
            "1.safetensors\0.txt",
        ),
        (
            "url",
            "a shard is an address",
            "https://example.com/1.safetensors",
        ),
        ("index-itself", "a shard is the index", INDEX),
        ("missing", "a shard is missing", "3.safetensors"),
    ] {
        let mut files = folder(json!({"a": "1.safetensors", "b": target}));
        files.push(("outside.safetensors", shard("b")));
        add(name, why, Verdict::Refused, files);
    }
    for (name, why, map) in [
        (
            "key-missing",
            "a shard lacks a tensor that the index promises",
            json!({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}),
        ),
        (
            "key-swapped",
            "the tensors lie in the other shards",
            json!({"a": "2.safetensors", "b": "1.safetensors"}),
        ),
        ("map-empty", "the index lists no tensor", json!({})),
        ("map-list", "the map is a list", json!(["1.safetensors"])),
        ("map-null", "the map is null", json!(null)),
        ("map-text", "the map is a string", json!("1.safetensors")),
        ("value-number", "a shard is a number", json!({"a": 1})),
        (
            "value-list",
            "a shard is a list",
            json!({"a": ["1.safetensors"]}),
        ),
        ("value-null", "a shard is null", json!({"a": null})),
    ] {
        add(name, why, Verdict::Refused, folder(map));
    }
    add(
        "key-in-two-shards",
        "two shards hold a tensor of one name, and the index says whose counts",
        loads(&["a", "b"]),
        vec![
            index(sound.clone()),
            first.clone(),
            ("checkpoint/2.safetensors", shard_of(&["a", "b"])),
        ],
    );
    let texts = [
        (
            "no-map",
            "the index has no map",
            r#"{"metadata":{}}"#.to_owned(),
        ),
        ("empty", "the index is empty", String::new()),
        (
            "not-json",
            "the index is not JSON",
            "weight_map: a".to_owned(),
        ),
        ("array", "the index is an array", "[]".to_owned()),
        (
            "unclosed",
            "the index is cut",
            r#"{"weight_map":{"a":"1.safe"#.to_owned(),
        ),
        (
            "trailing",
            "text follows the index",
            format!("{} x", json!({"weight_map": sound.clone()})),
        ),
        (
            "lfs-pointer",
            "the index is a Git LFS pointer",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_owned(),
        ),
        (
            "html",
            "the index is a web page",
            "<!DOCTYPE html><html></html>".to_owned(),
        ),
        (
            "key-twice",
            "a tensor is mapped twice, to other shards",
            r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","a":"2.safetensors"}}"#
                .to_owned(),
        ),
        (
            "deep",
            "100,000 arrays are in the index",
            format!(
                "{{\"weight_map\":{}{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
        ),
        (
            "deep-metadata",
            "100,000 arrays are in the metadata, never closed",
            format!("{{\"metadata\":{}", "[".repeat(100_000)),
        ),
    ];
    for (name, why, text) in texts {
        let files = vec![raw(&text), first.clone(), second.clone()];
        add(name, why, Verdict::Refused, files);
    }
    add(
        "not-utf8",
        "the index is not UTF-8",
        Verdict::Refused,
        vec![
            (
                "checkpoint/model.safetensors.index.json",
                b"{\"weight_map\":{\"\xff\":\"1.safetensors\"}}".to_vec(),
            ),
            first.clone(),
        ],
    );
    add(
        "shard-cut",
        "a shard is cut",
        Verdict::Refused,
        vec![
            index(sound.clone()),
            first.clone(),
            ("checkpoint/2.safetensors", shard("b")[..20].to_vec()),
        ],
    );
    add(
        "shard-pointer",
        "a shard is a Git LFS pointer",
        Verdict::Refused,
        vec![
            index(sound.clone()),
            first.clone(),
            (
                "checkpoint/2.safetensors",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec(),
            ),
        ],
    );
    add(
        "shard-folder",
        "a shard is a folder",
        Verdict::Refused,
        vec![
            index(sound.clone()),
            first.clone(),
            ("checkpoint/2.safetensors/x", Vec::new()),
        ],
    );

    // Cases that the format leaves open.
    add(
        "key-twice-same",
        "a tensor is mapped twice, to one shard",
        Verdict::Either,
        vec![
            raw(r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","a":"1.safetensors"}}"#),
            first.clone(),
            second.clone(),
        ],
    );
    add(
        "unlisted-tensor",
        "a shard holds a tensor that the index does not list, which is taken along",
        loads_from(&[("a", 0), ("b", 1), ("c", 1)]),
        vec![
            index(sound),
            first.clone(),
            ("checkpoint/2.safetensors", shard_of(&["b", "c"])),
        ],
    );
    add(
        "subfolder",
        "a shard lies in a folder below",
        Verdict::Either,
        vec![
            index(json!({"a": "1.safetensors", "b": "below/2.safetensors"})),
            first,
            ("checkpoint/below/2.safetensors", shard("b")),
        ],
    );
}

/// One tensor of each shard.
pub(super) fn loads(names: &[&str]) -> Verdict {
    let names: Vec<_> = names.iter().copied().zip(0..).collect();
    loads_from(&names)
}

/// Tensors, each of the shard of this number.
fn loads_from(names: &[(&str, usize)]) -> Verdict {
    let tensors = names.iter().map(|&(name, shard)| ExpectedTensor {
        shard,
        ..expected(name, Dtype::U8, &[2], bytes_of(name))
    });
    Verdict::Loads {
        tensors: tensors.collect(),
    }
}

fn index(map: serde_json::Value) -> (&'static str, Vec<u8>) {
    raw(&json!({"metadata": {"total_size": 4}, "weight_map": map}).to_string())
}

fn raw(text: &str) -> (&'static str, Vec<u8>) {
    (
        "checkpoint/model.safetensors.index.json",
        text.as_bytes().to_vec(),
    )
}

pub(super) fn shard(name: &str) -> Vec<u8> {
    shard_of(&[name])
}

pub(super) fn shard_of(names: &[&str]) -> Vec<u8> {
    let members: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let (first, end) = (2 * number, 2 * number + 2);
            format!(
                "\"{name}\":{{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[{first},{end}]}}"
            )
        })
        .collect();
    let data: Vec<u8> = names.iter().flat_map(|name| bytes_of(name)).collect();
    raw_file(format!("{{{}}}", members.join(",")), &data)
}

fn bytes_of(name: &str) -> Vec<u8> {
    let first = name.bytes().next().unwrap_or(0);
    vec![first, first + 1]
}
