//! Agreement with Python's `huggingface_hub`, which fills the caches that people have.
//!
//! Not part of the ordinary run, since it needs a Python that has the library:
//! `TENSORLIFT_PYTHON=python3 cargo test -p tensorlift-shard-index -- --ignored`.

use std::collections::BTreeMap;
use std::process::Command;

use tensorlift_shard_index::{Environment, ResolveOptions, Route, hub_cache, resolve};

use crate::fill;

fn python(script: &str, variables: &BTreeMap<String, String>) -> String {
    let program = std::env::var("TENSORLIFT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(program);
    command
        .args(["-I", "-c", script])
        .env_clear()
        .envs(variables);
    let output = command.output().expect("TENSORLIFT_PYTHON names a Python");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end_matches('\n')
        .to_owned()
}

/// One Python for all cases: importing takes a while.
const CACHES: &str = r#"
import importlib, json, os
import huggingface_hub.constants as constants
for line in json.loads(os.environ.pop("CASES")):
    os.environ.clear()
    os.environ.update(line)
    importlib.reload(constants)
    print(json.dumps(constants.HF_HUB_CACHE))
"#;

#[test]
#[ignore = "needs a Python with huggingface_hub"]
fn caches_are_where_python_looks() {
    let names = [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
    ];
    let values = [
        "", "/x", "~", "~/x/", "$A/x", "${A}", "$B", "rel//x", "$", "a$-${A",
    ];
    let mut cases = Vec::new();
    for home in ["/home/u", "/", "/home/u/", "", "/$A"] {
        for (first, name) in names.iter().enumerate() {
            for value in values {
                for later in [None, Some("/later"), Some("~/$B")] {
                    let mut case =
                        BTreeMap::from([("HOME", home), ("A", "aa"), ("B", "~/$A"), (name, value)]);
                    if let (Some(later), Some(next)) = (later, names.get(first + 1)) {
                        case.insert(next, later);
                    }
                    cases.push(case);
                }
            }
        }
        cases.push(BTreeMap::from([("HOME", home)]));
    }
    let json = serde_json::to_string(&cases).unwrap();
    let printed = python(CACHES, &BTreeMap::from([("CASES".to_owned(), json)]));
    let printed: Vec<String> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(printed.len(), cases.len());
    for (case, printed) in cases.iter().zip(printed) {
        let ours = hub_cache(&Environment::fixed(case.iter().map(|(k, v)| (*k, *v))));
        assert_eq!(
            ours.to_str().unwrap().trim_end_matches('/'),
            printed.trim_end_matches('/'),
            "{case:?}"
        );
    }
}

const SNAPSHOTS: &str = r#"
import json, os
from huggingface_hub import snapshot_download
for repo, revision in json.loads(os.environ["CASES"]):
    try:
        print(snapshot_download(repo, revision=revision, local_files_only=True))
    except Exception as error:
        print("none")
"#;

#[test]
#[ignore = "needs a Python with huggingface_hub"]
fn snapshots_are_those_python_finds() {
    let cache = tempfile::tempdir().unwrap();
    let path = cache.path().canonicalize().unwrap();
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    for model in ["models--org--name", "models--gpt2"] {
        for commit in [&one, &two] {
            fill(
                &path,
                &[&format!("{model}/snapshots/{commit}/model.safetensors")],
            );
        }
        for (name, commit) in [
            ("main", &one),
            ("v1", &two),
            ("pr/1", &two),
            ("gone", &"3".repeat(40)),
        ] {
            fill(&path, &[&format!("{model}/refs/{name}")]);
            std::fs::write(path.join(model).join("refs").join(name), commit).unwrap();
        }
    }
    let mut cases = Vec::new();
    for repo in [
        "org/name",
        "gpt2",
        "org/none",
        "a--b",
        "a..b",
        ".a",
        "org/name.git",
        "o/n/x",
    ] {
        for revision in [
            "main",
            "v1",
            "pr/1",
            "pr",
            "gone",
            "none",
            &one,
            &two,
            &"3".repeat(40),
        ] {
            cases.push((repo, revision.to_owned()));
        }
    }
    let cache_variable = ("HF_HUB_CACHE".to_owned(), path.to_str().unwrap().to_owned());
    let json = serde_json::to_string(&cases).unwrap();
    let variables = BTreeMap::from([("CASES".to_owned(), json), cache_variable.clone()]);
    let printed = python(SNAPSHOTS, &variables);
    let printed: Vec<_> = printed.lines().collect();
    assert_eq!(printed.len(), cases.len());
    let options = ResolveOptions::new().environment(Environment::fixed([cache_variable]));
    for ((repo, revision), printed) in cases.iter().zip(printed) {
        let ours = match resolve(format!("{repo}@{revision}"), &options).map(|r| r.choice.route) {
            Ok(Route::Hub(entry)) => entry.snapshot.to_str().unwrap().to_owned(),
            _ => "none".to_owned(),
        };
        assert_eq!(ours, printed, "{repo}@{revision}");
    }
}
