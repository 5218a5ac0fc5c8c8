//! `verify`, `manifest`, `load` with expected hashes, `completions`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorlift_fixture_kit::committed;

use crate::{output, tensorlift};

/// A copy of the committed model of one file.
fn model() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let from = committed::folder().join("tiny-model").join(name);
        fs::copy(from, copy.path().join(name)).unwrap();
    }
    copy
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn flip_last(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The outcome of each file, by name.
fn verified(arguments: &[&str]) -> (Option<i32>, Vec<(String, String)>) {
    let run = tensorlift(&[&["verify", "--json"], arguments].concat());
    let lines = String::from_utf8(run.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let files = lines.filter(|line| line["error"].is_null()).map(|line| {
        let name = Path::new(line["path"].as_str().unwrap())
            .file_name()
            .unwrap()
            .to_owned();
        (
            name.into_string().unwrap(),
            line["comparison"].as_str().unwrap().to_owned(),
        )
    });
    (run.status.code(), files.collect())
}

#[cfg(target_os = "linux")]
#[test]
fn a_manifest_replaces_another_whole_or_not_at_all() {
    let model = model();
    let folder = text(model.path());
    let kept = tempfile::tempdir().unwrap();
    let (list, link) = (kept.path().join("list.json"), kept.path().join("link"));
    fs::write(&list, "an older manifest, which is much longer").unwrap();
    std::os::unix::fs::symlink("list.json", &link).unwrap();
    output(&["manifest", folder, "--out", text(&link)]);
    let read: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    assert_eq!(read["tensorlift_manifest"], 1);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 2);
    // A device is written to, never replaced.
    let refused = tensorlift(&["manifest", folder, "--out", "/dev/full"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/dev/full"));
    assert!(Path::new("/dev/full").exists());
    let refused = tensorlift(&["manifest", folder, "--out", "/nowhere/list.json"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("/nowhere: ") && said.contains("make the folder first"),
        "{said}"
    );
}

#[test]
fn a_manifest_finds_what_was_altered() {
    let model = model();
    let folder = text(model.path());
    let list = model.path().join("tensorlift-manifest.json");
    output(&["manifest", folder, "--sha256", "--out", text(&list)]);
    // Found by its name; the folder's other files are listed too.
    let (status, files) = verified(&[folder]);
    assert_eq!((status, files.len()), (Some(0), 3));
    assert!(
        files.iter().all(|(_, outcome)| outcome == "right"),
        "{files:?}"
    );
    let read: Value = serde_json::from_str(&fs::read_to_string(&list).unwrap()).unwrap();
    assert_eq!(read["tensorlift_manifest"], 1);

    let weights = model.path().join("model.safetensors");
    let report = output(&["load", folder, "--manifest", text(&list)]);
    assert!(
        report.contains("1 hash") && report.contains("matches a manifest"),
        "{report}"
    );
    flip_last(&weights);
    let (status, files) = verified(&[folder]);
    assert_eq!(status, Some(1));
    let wrong: Vec<_> = files
        .iter()
        .filter(|(_, outcome)| outcome != "right")
        .collect();
    assert_eq!(
        wrong,
        [&("model.safetensors".to_owned(), "wrong".to_owned())]
    );
    let (status, files) = verified(&[text(&weights)]);
    assert_eq!((status, files.len()), (Some(1), 1));

    let said = tensorlift(&["verify", folder]);
    let lines = String::from_utf8(said.stdout).unwrap();
    assert!(
        lines.contains("WRONG") && lines.contains("tensors that differ: "),
        "{lines}"
    );
    let refused = tensorlift(&["load", folder, "--manifest", text(&list), "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(object["error"]["kind"], "malformed");
    assert!(object["error"]["tensor"].is_string() && object["error"]["file"].is_string());
}

#[test]
fn a_list_of_sums_is_read_as_sha256sum_writes_it() {
    let model = model();
    let folder = text(model.path());
    let manifest: Value = serde_json::from_str(&output(&["manifest", folder, "--sha256"])).unwrap();
    let sums: String = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            format!(
                "{}  {}\n",
                file["sha256"].as_str().unwrap(),
                file["name"].as_str().unwrap()
            )
        })
        .collect();
    fs::write(model.path().join("SHA256SUMS"), sums).unwrap();
    assert_eq!(verified(&[folder]).0, Some(0));
    output(&[
        "load",
        folder,
        "--manifest",
        text(&model.path().join("SHA256SUMS")),
    ]);
    flip_last(&model.path().join("config.json"));
    let (status, files) = verified(&[folder]);
    assert_eq!(status, Some(1));
    assert!(
        files.contains(&("config.json".into(), "wrong".into())),
        "{files:?}"
    );
    fs::remove_file(model.path().join("config.json")).unwrap();
    assert!(
        verified(&[folder])
            .1
            .contains(&("config.json".into(), "missing".into()))
    );
}

#[test]
fn a_signature_is_checked_by_its_key() {
    let signed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tensorlift/tests/it/signed");
    let at = |name: &str| signed.join(name).to_str().unwrap().to_owned();
    let (model, signature, key) = (at("model"), at("model/model.sig"), at("key.pub"));
    let options = ["--signature", &signature, "--key", &key];
    assert_eq!(
        verified(&[&[model.as_str()], &options[..]].concat()).0,
        Some(0)
    );
    output(&[&["load", &model], &options[..]].concat());
    let other = at("sharded.sig");
    let wrong = [&model, "--signature", &other, "--key", &signature];
    assert_eq!(verified(&wrong).0, Some(1));
    // One without the other is a mistake.
    let usage = tensorlift(&["verify", &model, "--signature", &signature]);
    assert_eq!(usage.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn a_replaced_blob_of_the_hub_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--tiny");
    let snapshot = model.join("snapshots/1234");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("blobs")).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "1234").unwrap();
    let from = committed::folder().join("tiny-model");
    let manifest = output(&["manifest", text(&from), "--sha256"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let mut blobs: Vec<PathBuf> = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let blob = match name {
            "tokenizer.json" => "of-unknown-name",
            _ => file["sha256"].as_str().unwrap(),
        };
        fs::copy(from.join(name), model.join("blobs").join(blob)).unwrap();
        let to = format!("../../blobs/{blob}");
        std::os::unix::fs::symlink(to, snapshot.join(name)).unwrap();
        blobs.push(model.join("blobs").join(blob));
    }
    let run = |arguments: &[&str]| {
        let mut command = crate::program();
        command.args(arguments).env("HF_HUB_CACHE", cache.path());
        command.output().unwrap()
    };
    let found = run(&["verify", "org/tiny"]);
    let said = String::from_utf8(found.stdout).unwrap();
    assert!(
        said.matches("ok ").count() == 2 && said.contains("?      "),
        "{said}"
    );
    assert_eq!(
        found.status.code(),
        Some(1),
        "one file could not be verified"
    );
    let loaded = run(&["load", "org/tiny", "--verify"]);
    let said = String::from_utf8(loaded.stdout).unwrap();
    assert!(
        said.contains("1 hash") && said.contains("matches the Hugging Face cache"),
        "{said}"
    );
    blobs.iter().for_each(|blob| flip_last(blob));
    assert_eq!(
        run(&["load", "org/tiny", "--verify"]).status.code(),
        Some(1)
    );
    assert_eq!(run(&["verify", "org/tiny"]).status.code(), Some(1));
}

#[test]
fn what_nothing_is_known_of_is_not_called_right() {
    let model = model();
    let run = tensorlift(&["verify", text(model.path()), "--json"]);
    assert_eq!(run.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(object["error"]["kind"], "not_found");
    assert_eq!(verified(&["no/such/folder/at all"]).0, Some(1));
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(&["completions", shell]);
        assert!(
            script.contains("tensorlift") && script.contains("manifest"),
            "{shell}"
        );
    }
}
