//! `--log` and its short form.

use std::process::Output;

use serde_json::Value;

use tensorlift_fixture_kit::committed;

use crate::{program, tensorlift};

fn load(arguments: &[&str]) -> Output {
    let folder = committed::folder().join("sharded-safetensors");
    let load = ["load", folder.to_str().unwrap()];
    tensorlift(&[&load[..], arguments].concat())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn json_is_an_object_a_line_with_typed_fields() {
    let log = text(load(&["--log", "debug,json"]).stderr);
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |message: &str| {
        let is_it = |event: &&Value| event["fields"]["message"] == message;
        events
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {message:?} in {log}"))
    };
    let loaded = find("loaded");
    assert_eq!(loaded["level"], "INFO");
    assert!(loaded["fields"]["bytes"].as_u64() > Some(0));
    assert!(loaded["fields"]["seconds"].as_f64() > Some(0.0));
    assert_eq!(loaded["span"]["name"], "load");
    assert_eq!(find("reader chosen")["fields"]["reader"], "buffered");
    for phase in [
        "resolve", "open", "parse", "plan", "allocate", "read", "finish",
    ] {
        let closed = |event: &Value| event["span"]["name"] == phase;
        assert!(events.iter().any(closed), "no end of {phase} in {log}");
    }
}

#[test]
fn text_has_no_escapes_in_a_pipe_and_follows_the_level() {
    let info = text(load(&["--log", "info"]).stderr);
    assert!(
        info.contains("loaded") && !info.contains('\u{1b}'),
        "{info}"
    );
    assert!(!info.contains("reader chosen"), "{info}");
    assert!(text(load(&["-vv"]).stderr).contains("reader chosen"));
    assert_eq!(text(load(&[]).stderr), "");
    assert_eq!(text(load(&["--log", "off"]).stderr), "");
}

#[test]
fn an_unknown_word_is_an_error_of_use() {
    let failed = load(&["--log", "loud"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(text(failed.stderr).contains("found \"loud\""));
    let folder = committed::folder().join("tiny-model");
    let by_variable = |value: &str, option: &[&str]| {
        let mut load = program();
        load.args(["load", folder.to_str().unwrap()]).args(option);
        load.env("TENSORLIFT_LOG", value).output().unwrap()
    };
    assert!(text(by_variable("json", &[]).stderr).starts_with('{'));
    assert_eq!(text(by_variable("", &[]).stderr), "");
    // An option comes before the variable.
    assert!(!text(by_variable("json", &["-v"]).stderr).starts_with('{'));
    let failed = by_variable("loud", &[]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(text(failed.stderr).contains("TENSORLIFT_LOG: expected off"));
}
