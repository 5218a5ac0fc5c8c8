use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tensorlift_shard_index::{
    Environment, Error, HubNameError, MissReason, ResolveOptions, Route, hub_cache, resolve,
};

use crate::{fill, folder};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with `org/name` and `gpt2` in it, and options that look there.
fn cache() -> (TempDir, ResolveOptions) {
    let cache = tempfile::tempdir().unwrap();
    for model in ["models--org--name", "models--gpt2"] {
        add(
            cache.path(),
            model,
            &["main", "pr/1"],
            COMMIT,
            &["model.safetensors", "config.json"],
        );
    }
    let options =
        ResolveOptions::new().environment(Environment::fixed([("HF_HUB_CACHE", cache.path())]));
    (cache, options)
}

/// Adds a snapshot whose files are links into `blobs`, as the hub's own library writes it.
fn add(cache: &Path, model: &str, refs: &[&str], commit: &str, files: &[&str]) {
    let model = cache.join(model);
    for name in refs {
        fill(&model, &[&format!("refs/{name}")]);
        fs::write(model.join("refs").join(name), commit).unwrap();
    }
    fs::create_dir_all(model.join("snapshots").join(commit)).unwrap();
    for file in files {
        let path = model.join("snapshots").join(commit).join(file);
        fill(&model, &[&format!("blobs/{file}")]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../blobs").join(file), path).unwrap();
        #[cfg(not(unix))]
        fs::write(path, "").unwrap();
    }
}

#[test]
fn snapshots_are_found_by_branch_pull_request_and_commit() {
    let (cache, options) = cache();
    for (target, model, revision) in [
        ("org/name", "models--org--name", "main"),
        ("gpt2", "models--gpt2", "main"),
        ("org/name@main", "models--org--name", "main"),
        ("org/name@pr/1", "models--org--name", "pr/1"),
        (&format!("org/name@{COMMIT}"), "models--org--name", COMMIT),
    ] {
        let resolved = resolve(target, &options).unwrap();
        let snapshot = cache.path().join(model).join("snapshots").join(COMMIT);
        assert_eq!(resolved.shards, [snapshot.join("model.safetensors")]);
        assert_eq!(
            resolved.companions.config,
            Some(snapshot.join("config.json"))
        );
        let Route::Hub(entry) = resolved.choice.route else {
            panic!("{target}");
        };
        assert_eq!((&*entry.revision, &*entry.commit), (revision, COMMIT));
        assert_eq!(entry.snapshot, snapshot);
    }
}

#[test]
fn an_index_in_a_snapshot_finds_its_links() {
    let (cache, options) = cache();
    add(
        cache.path(),
        "models--o--sharded",
        &["main"],
        COMMIT,
        &["a.safetensors", "model.safetensors.index.json"],
    );
    let blob = cache
        .path()
        .join("models--o--sharded/blobs/model.safetensors.index.json");
    fs::write(blob, crate::index(&["a.safetensors"])).unwrap();
    let resolved = resolve("o/sharded", &options).unwrap();
    assert!(resolved.shards[0].ends_with(format!("snapshots/{COMMIT}/a.safetensors")));
    // The folder of the model, given as a path, is its default revision.
    let by_path = resolve(cache.path().join("models--o--sharded"), &options).unwrap();
    assert_eq!(by_path.shards, resolved.shards);
    assert_eq!(by_path.choice, resolved.choice);
}

#[test]
fn an_option_names_another_cache() {
    let (cache, _) = cache();
    let options = ResolveOptions::new()
        .environment(Environment::fixed([("HF_HUB_CACHE", "/nowhere")]))
        .cache(cache.path());
    assert!(resolve("org/name", &options).is_ok());
}

#[test]
fn a_path_goes_before_a_hub_name() {
    // Tests run in the folder of the crate, which has a folder `src` without a checkpoint.
    let (cache, options) = cache();
    add(
        cache.path(),
        "models--src",
        &["main"],
        COMMIT,
        &["model.safetensors"],
    );
    assert!(matches!(
        resolve("src", &options),
        Err(Error::NoCheckpoint { .. })
    ));
}

#[test]
fn what_the_cache_lacks_is_said_with_the_command_that_fetches_it() {
    let (cache, options) = cache();
    let model = cache.path().join("models--org--name");
    fs::write(model.join("refs/gone"), "f".repeat(40)).unwrap();
    let miss = |target: &str| {
        let error = resolve(target, &options).unwrap_err();
        let text = error.to_string();
        let Error::NotFound {
            hub: Some(miss), ..
        } = error
        else {
            panic!("{text}");
        };
        assert!(text.contains(&cache.path().display().to_string()), "{text}");
        (miss.reason, text)
    };
    let (reason, text) = miss("org/other");
    assert_eq!(
        reason,
        MissReason::Repo(cache.path().join("models--org--other"))
    );
    assert!(
        text.ends_with("this fetches it: hf download org/other"),
        "{text}"
    );
    let (reason, text) = miss("org/name@v2");
    let MissReason::Revision { known } = reason else {
        panic!("{text}");
    };
    assert_eq!(known, ["gone", "main", "pr/1", COMMIT]);
    assert!(
        text.ends_with("hf download org/name --revision v2"),
        "{text}"
    );
    // A folder of revisions is no revision.
    assert!(matches!(miss("org/name@pr").0, MissReason::Revision { .. }));
    let absent = model.join("snapshots").join("f".repeat(40));
    assert_eq!(
        miss("org/name@gone").0,
        MissReason::Snapshot(absent.clone())
    );
    assert_eq!(
        miss(&format!("org/name@{}", "f".repeat(40))).0,
        MissReason::Snapshot(absent)
    );
}

#[test]
fn an_incomplete_snapshot_says_how_to_fetch_the_rest() {
    let (cache, options) = cache();
    add(
        cache.path(),
        "models--o--part",
        &["main"],
        COMMIT,
        &["a-00001-of-00002.bin"],
    );
    add(cache.path(), "models--o--empty", &["main"], COMMIT, &[]);
    add(
        cache.path(),
        "models--o--config",
        &["main"],
        COMMIT,
        &["config.json"],
    );
    for name in ["o/part", "o/empty", "o/config"] {
        let error = resolve(name, &options).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::InSnapshot { .. }), "{text}");
        assert!(text.ends_with(&format!("hf download {name}")), "{text}");
    }
}

#[test]
fn names_that_climb_are_refused() {
    let (cache, options) = cache();
    fill(
        cache.path(),
        &[
            "models--org--name/x/model.safetensors",
            "outside/model.safetensors",
        ],
    );
    for target in [
        "org/name@..",
        "org/name@../x",
        "org/name@../../outside",
        "org/name@main/../x",
        "org/name@/etc",
        "org/name@",
        "org/name@a\\b",
        "org/name@C:x",
    ] {
        let error = resolve(target, &options).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::HubName {
                    error: HubNameError::Revision(_)
                }
            ),
            "{target}: {error}"
        );
    }
    for target in ["a..b/c@main", "org/../name@main", "a--b@main"] {
        let error = resolve(target, &options).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::HubName {
                    error: HubNameError::Repo(_)
                }
            ),
            "{target}: {error}"
        );
    }
    for target in [
        "../name", "./name", "/name", "a/b/c", "a..b/c", "-a", "a\\b", "~/x",
    ] {
        let error = resolve(target, &options).unwrap_err();
        assert!(
            matches!(&error, Error::NotFound { hub: None, .. }),
            "{target}: {error}"
        );
    }
}

#[test]
fn refs_that_climb_are_refused() {
    let (cache, options) = cache();
    let model = cache.path().join("models--org--name");
    fill(&model, &["outside/model.safetensors"]);
    for commit in [
        "../outside",
        "..",
        "",
        "/etc",
        "a/b",
        "a b",
        &"a".repeat(1000),
    ] {
        fs::write(model.join("refs/main"), commit).unwrap();
        let error = resolve("org/name", &options).unwrap_err();
        assert!(
            matches!(&error, Error::CorruptRef { .. }),
            "{commit:?}: {error}"
        );
    }
    fs::write(model.join("refs/main"), format!("{COMMIT}\n")).unwrap();
    assert!(resolve("org/name", &options).is_ok());
}

#[test]
fn each_variable_goes_before_the_next() {
    let all = [
        ("HF_HUB_CACHE", "/a", "/a"),
        ("HUGGINGFACE_HUB_CACHE", "/b", "/b"),
        ("HF_HOME", "/c", "/c/hub"),
        ("XDG_CACHE_HOME", "/d", "/d/huggingface/hub"),
        ("HOME", "/e", "/e/.cache/huggingface/hub"),
    ];
    for first in 0..all.len() {
        let variables = all[first..].iter().map(|(name, value, _)| (*name, *value));
        let cache = hub_cache(&Environment::fixed(variables));
        assert_eq!(cache, PathBuf::from(all[first].2), "{}", all[first].0);
    }
}

#[test]
fn variables_are_expanded() {
    for (variables, cache) in [
        (&[("HOME", "/h"), ("HF_HUB_CACHE", "~/x")][..], "/h/x"),
        (&[("HOME", "/h"), ("HF_HOME", "~")], "/h/hub"),
        (
            &[
                ("HOME", "/h/"),
                ("HUGGINGFACE_HUB_CACHE", "~/$A/${B}"),
                ("A", "1"),
                ("B", "2"),
            ],
            "/h/1/2",
        ),
        (
            &[("XDG_CACHE_HOME", "$A"), ("A", "/v")],
            "/v/huggingface/hub",
        ),
        (&[("HF_HOME", "$MISSING/x")], "$MISSING/x/hub"),
        // Set, but empty, counts, as in Python.
        (&[("HF_HOME", ""), ("HOME", "/h")], "hub"),
        (&[("XDG_CACHE_HOME", ""), ("HOME", "/h")], "huggingface/hub"),
        (&[("HF_HUB_CACHE", ""), ("HOME", "/h")], ""),
        (&[("HOME", "")], "/.cache/huggingface/hub"),
        // Expanded a second time as a part of the default.
        (&[("HF_HOME", "$A"), ("A", "$B"), ("B", "/b")], "/b/hub"),
    ] {
        let found = hub_cache(&Environment::fixed(variables.iter().copied()));
        assert_eq!(found, PathBuf::from(cache), "{variables:?}");
    }
}

#[test]
fn every_route_to_the_cache_works() {
    let home = folder(&[]);
    let cache = home.path().join(".cache/huggingface/hub");
    add(
        &cache,
        "models--o--n",
        &["main"],
        COMMIT,
        &["model.safetensors"],
    );
    let at = |path: &Path| path.to_str().unwrap().to_owned();
    for (name, value) in [
        ("HF_HUB_CACHE", at(&cache)),
        ("HUGGINGFACE_HUB_CACHE", at(&cache)),
        ("HF_HOME", at(&home.path().join(".cache/huggingface"))),
        ("XDG_CACHE_HOME", at(&home.path().join(".cache"))),
        ("HOME", at(home.path())),
    ] {
        let options = ResolveOptions::new().environment(Environment::fixed([(name, value)]));
        assert!(resolve("o/n", &options).is_ok(), "{name}");
    }
}
