//! What each command prints with `--json` is what its committed schema says, and nothing beside.

use std::fs;

use serde_json::{Value, json};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use crate::{json_schema, output, path, program, tensorlift};

/// The committed schema of a form.
fn schema(name: &str) -> Value {
    let schema: Value = serde_json::from_str(&output(&["schema", name])).unwrap();
    assert_eq!(schema["$id"], format!("urn:tensorlift:{name}:1"));
    schema
}

#[track_caller]
fn check(name: &str, value: &Value) {
    if let Err(why) = json_schema::check(&schema(name), value) {
        panic!("{name}: {why}\n{value:#}");
    }
}

fn is_refused(name: &str, value: &Value) -> bool {
    json_schema::check(&schema(name), value).is_err()
}

/// Checks each line of what a command prints, and its status.
#[track_caller]
fn check_lines(name: &str, arguments: &[&str]) -> Vec<Value> {
    let run = tensorlift(arguments);
    let status = run.status.code().unwrap();
    check("status", &json!(status));
    let said = String::from_utf8(run.stdout).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty(), "{arguments:?} prints nothing");
    for line in &lines {
        match line.get("error") {
            Some(_) => check("error", line),
            None => check(name, line),
        }
    }
    lines
}

#[test]
fn every_command_prints_what_its_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for model in [
        "tiny-model",
        "sharded-torch",
        "torch/views.pt",
        "torch/quantized.pt",
    ] {
        let model = path(model);
        check_lines("inspect", &["inspect", &model, "--json", "--hash"]);
        check_lines(
            "inspect-summary",
            &["inspect", &model, "--json", "--summary"],
        );
        check_lines("plan", &["plan", &model, "--json"]);
        let memory = ["--device-map", "auto", "--max-memory", "0=1MiB,cpu=1GiB"];
        let map = [&["plan", &model, "--json"], &memory[..]].concat();
        check_lines("plan-device-map", &map);
        check_lines("load", &["load", &model, "--json", "--verify"]);
        let converted = scratch("converted");
        check_lines(
            "convert",
            &["convert", &model, &converted, "--json", "--force"],
        );
        check_lines("diff", &["diff", &model, &converted, "--json", "--values"]);
        let options = ["--dtype", "bf16", "--threads", "2"];
        check_lines(
            "load",
            &[&["load", &model, "--json"], &options[..]].concat(),
        );
    }
    let model = path("tiny-model");
    let explained = tensorlift(&["load", &model, "--json", "--explain"]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    let (plan, report) = explained.split_once('\n').unwrap();
    check("load-explain", &serde_json::from_str(plan).unwrap());
    check("load", &serde_json::from_str(report).unwrap());
    check_lines("doctor", &["doctor", &model, "--json"]);
    let bench = ["bench", &model, "--json", "--rounds", "1", "--threads", "1"];
    check_lines("bench", &bench);
    let other = path("sharded-safetensors");
    check_lines("diff", &["diff", &model, &other, "--json", "--values"]);
}

#[test]
fn manifests_and_what_verify_finds_are_as_their_schemas_say() {
    let folder = tempfile::tempdir().unwrap();
    let spec = CheckpointSpec::new(Format::safetensors());
    spec.tensor("a", Dtype::F32, [5])
        .tensor("b", Dtype::I8, [0])
        .write(folder.path())
        .unwrap();
    let model = folder.path().to_str().unwrap();
    for sha256 in [&["--sha256"][..], &[]] {
        let manifest = output(&[&["manifest", model], sha256].concat());
        check("manifest", &serde_json::from_str(&manifest).unwrap());
        fs::write(folder.path().join("tensorlift-manifest.json"), manifest).unwrap();
    }
    let verify = ["verify", model, "--json"];
    let right = check_lines("verify", &verify);
    assert_eq!(right[0]["comparison"], "right");
    let manifest = folder.path().join("tensorlift-manifest.json");
    let manifest = manifest.to_str().unwrap();
    check_lines("load", &["load", model, "--json", "--manifest", manifest]);
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(check_lines("verify", &verify)[0]["comparison"], "wrong");
    bytes.pop();
    fs::write(&file, &bytes).unwrap();
    assert_eq!(
        check_lines("verify", &verify)[0]["comparison"],
        "wrong_length"
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(check_lines("verify", &verify)[0]["comparison"], "missing");
}

#[test]
fn failures_of_every_command_are_as_their_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("model.safetensors");
    fs::write(&broken, b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}").unwrap();
    let (broken, out) = (broken.to_str().unwrap(), folder.path().join("out"));
    let right = path("tiny-model");
    for (arguments, status) in [
        (&["inspect", broken][..], 1),
        (&["load", broken], 1),
        (&["load", &right, "--memory-bytes", "1"], 1),
        (&["load", &right, "--select", "no.such"], 1),
        (&["plan", broken], 1),
        (&["verify", broken], 1),
        (&["convert", broken, out.to_str().unwrap()], 1),
        (&["diff", broken, &right], 1),
        (&["bench", broken], 1),
        (&["inspect", "no/such/file"], 1),
    ] {
        let run = tensorlift(&[arguments, &["--json"]].concat());
        assert_eq!(run.status.code(), Some(status), "{arguments:?}");
        let said = String::from_utf8(run.stdout).unwrap();
        check(
            "error",
            &serde_json::from_str(said.lines().last().unwrap()).unwrap(),
        );
    }
    let mut wrong = program();
    let wrong = wrong.args(["load", &right, "--json"]);
    let wrong = wrong.env("TENSORLIFT_THREADS", "none").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    check("error", &serde_json::from_slice(&wrong.stdout).unwrap());
    assert!(is_refused("status", &json!(3)));
    let strange = json!({ "error": { "kind": "strange", "message": "" } });
    assert!(is_refused("error", &strange));
    let mut inspected = json!({"name": "a", "dtype": "F32", "shape": [1], "bytes": 4, "file": "f"});
    check("inspect", &inspected);
    inspected["unknown"] = json!(1);
    assert!(is_refused("inspect", &inspected));
    let missing = json!({"name": "a", "dtype": "F32", "shape": [1], "bytes": 4});
    assert!(is_refused("inspect", &missing));
}

#[test]
fn all_schemas_are_listed() {
    let list = output(&["schema"]);
    let names = list
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 14, "{list}");
    for name in names {
        schema(name);
    }
    assert_eq!(tensorlift(&["schema", "no-such"]).status.code(), Some(2));
}
