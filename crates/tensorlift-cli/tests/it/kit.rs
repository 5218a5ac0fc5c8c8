//! Files of the hostile kit through the command line: names, bytes and exit status, as JSON.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tensorlift_fixture_kit::hostile::{self, Case, Verdict};

use super::tensorlift;

/// How the names of a kind's cases begin: what is left out or taken along, whole archives, whole
/// pickles, names of files, causes, views, and objects that are close to others.
const KINDS: [&[&str]; 7] = [
    &[
        "folder-index-of-one",
        "folder-other-",
        "folder-adapter",
        "folder-training-state",
        "folder-subfolder",
        "index-unlisted-tensor",
        "index-key-in-two-shards",
    ],
    &[
        "zip-bytes-",
        "zip-zeros-",
        "zip-newline-",
        "zip-end-",
        "zip-comment-",
        "zip-archive-",
        "zip-locator-",
    ],
    &["legacy-magic-", "legacy-second-"],
    &[
        "folder-series-",
        "folder-extension-",
        "folder-copies",
        "folder-two-",
    ],
    &["folder-instead-", "foreign-"],
    &["tensor-stride", "tensor-expand", "tensor-overlapping"],
    &[
        "tensor-storage-",
        "tensor-keys-",
        "tensor-built-",
        "tensor-converted-",
    ],
];

#[test]
fn every_kind_of_fault_ends_as_the_kit_says() {
    let cases = hostile::cases();
    for (kind, prefixes) in KINDS.iter().enumerate() {
        let is_of_kind = |case: &&Case| prefixes.iter().any(|start| case.name.starts_with(start));
        let checked: Vec<&Case> = cases
            .iter()
            .filter(is_of_kind)
            .filter(|case| case.verdict != Verdict::Either)
            .collect();
        assert!(checked.len() >= 2, "{prefixes:?}: {} cases", checked.len());
        for case in checked {
            check(case, kind == 0);
        }
    }
}

/// Inspects a case with hashes; with `names_all`, whatever is not loaded must be named.
fn check(case: &Case, names_all: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = case.write(folder.path()).unwrap();
    let run = tensorlift(&["inspect", "--json", "--hash", path.to_str().unwrap()]);
    let (said, errors) = (
        String::from_utf8(run.stdout).unwrap(),
        String::from_utf8(run.stderr).unwrap(),
    );
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    match &case.verdict {
        Verdict::Refused => {
            // Some faults are in the bytes, and show when they are loaded.
            assert_eq!(run.status.code(), Some(1), "{}: {said}", case.name);
            let error = &lines.last().unwrap()["error"];
            assert!(error["kind"].is_string(), "{}: {said}", case.name);
            assert!(error["message"].as_str().unwrap().len() > 20, "{error}");
        }
        Verdict::Loads { tensors } => {
            assert!(run.status.success(), "{}: {errors}", case.name);
            assert_eq!(lines.len(), tensors.len(), "{}: {said}", case.name);
            for (line, tensor) in lines.iter().zip(tensors) {
                assert_eq!(line["name"], tensor.name.as_str(), "{}", case.name);
                assert_eq!(line["dtype"], tensor.dtype.as_str(), "{}", case.name);
                assert_eq!(line["sha256"], tensor.sha256(), "{}", case.name);
            }
        }
        Verdict::Either => {}
    }
    if names_all {
        let loaded: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line["file"].as_str())
            .collect();
        for file in case.files() {
            let left_out = folder.path().join(&file.path);
            let is_loaded = loaded.iter().any(|path| Path::new(path) == left_out);
            // A series is named by its first file, a folder by itself.
            let name = left_out.file_name().unwrap().to_str().unwrap();
            let is_named = left_out
                .ancestors()
                .take_while(|path| *path != folder.path().join("checkpoint"))
                .any(|path| errors.contains(path.to_str().unwrap()));
            let is_named = is_named || errors.contains(name) || errors.contains("more file");
            assert!(
                is_loaded || is_named || name.ends_with(".json"),
                "{}: nothing says that {name} is not loaded: {errors}",
                case.name
            );
        }
    }
}
