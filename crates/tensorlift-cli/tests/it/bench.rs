//! Measuring: what is tried, what is printed, and how it ends early.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use crate::{output, path, program, tensorlift};

fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = output(arguments);
    let lines = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["line"] == kind).collect()
}

/// A file of 8 MiB on the file system of the sources, which may have direct reads.
fn model(folder: &Path) -> PathBuf {
    let spec = CheckpointSpec::new(Format::safetensors());
    spec.tensor("a", Dtype::F32, [1 << 20])
        .tensor("b", Dtype::F32, [1 << 20])
        .write(folder)
        .unwrap();
    folder.to_owned()
}

#[test]
fn every_axis_is_tried_in_every_round() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let model = model.to_str().unwrap();
    let all = lines(&["bench", model, "--json", "--rounds", "2", "--start", "warm"]);
    assert_eq!(of(&all, "machine").len(), 1);
    assert!(of(&all, "device").is_empty());
    let measured = of(&all, "measured");
    let loads = measured.iter().filter(|row| row["work"] == "load");
    let sets: BTreeSet<String> = loads.clone().map(|row| row["set"].to_string()).collect();
    for set in [
        "{}",
        r#"{"reader":"buffered"}"#,
        r#"{"mode":"map"}"#,
        r#"{"threads":"1"}"#,
        r#"{"threads":"16"}"#,
        r#"{"chunk-bytes":"1MiB"}"#,
    ] {
        assert!(sets.contains(set), "{set} is not in {sets:?}");
    }
    for row in &measured {
        let rounds = row["rounds"].as_array().unwrap();
        match row["not_run"].as_str() {
            // A reader that the file system or the kernel refuses.
            Some(why) => assert!(!why.is_empty() && rounds.len() < 2, "{row}"),
            None => {
                assert_eq!(rounds.len(), 2, "{row}");
                assert!(rounds.iter().all(|rate| rate.as_f64().unwrap() > 0.0));
                let median = row["median"].as_f64().unwrap();
                assert!(median > 0.0, "{row}");
            }
        }
        if let Some(reader) = row["set"]["reader"]
            .as_str()
            .filter(|_| row["not_run"].is_null())
        {
            assert_eq!(row["readers"], serde_json::json!([reader]));
        }
    }
    assert!(measured.iter().any(|row| row["work"] == "raw"));
    let best = of(&all, "best");
    assert_eq!(best.len(), 1);
    assert!(best[0]["gain"].as_f64().unwrap() >= 1.0, "{}", best[0]);
    assert!(best[0]["of_limit"].is_f64() && best[0]["why"].is_string());
}

#[test]
fn cold_loads_begin_without_the_files_or_are_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let model = model.to_str().unwrap();
    let fixed = [
        "--reader",
        "buffered",
        "--threads",
        "1",
        "--chunk-bytes",
        "1MiB",
    ];
    let arguments = ["bench", model, "--json", "--rounds", "1", "--start", "cold"];
    let all = lines(&[&arguments[..], &fixed].concat());
    // Not every file system lets go of its pages.
    match &of(&all, "not_run")[..] {
        [] => {
            let measured = of(&all, "measured");
            let loads = measured.iter().filter(|row| row["work"] == "load");
            assert_eq!(loads.count(), 1, "all else is fixed: {measured:?}");
            assert_eq!(of(&all, "best").len(), 1);
        }
        [not_run] => assert_eq!(not_run["start"], "cold"),
        more => panic!("{more:?}"),
    }
}

#[test]
fn people_get_a_table_and_no_escape_sequences() {
    let text = output(&[
        "bench",
        &path("tiny-model"),
        "--rounds",
        "1",
        "--start",
        "warm",
    ]);
    assert!(text.contains("in the page cache"), "{text}");
    assert!(
        text.contains("defaults") && text.contains("raw reads"),
        "{text}"
    );
    assert!(text.contains("\nbest: "), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("model.safetensors");
    fs::write(&broken, b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}").unwrap();
    let failed = tensorlift(&["bench", broken.to_str().unwrap(), "--json"]);
    assert_eq!(failed.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(said["error"]["kind"], "malformed");
}

#[cfg(unix)]
#[test]
fn an_interrupted_bench_prints_what_it_measured() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let arguments = ["bench", model.to_str().unwrap(), "--json", "--rounds", "99"];
    let mut command = program();
    let command = command.args(arguments).args(["--log", "info,json"]);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // The log tells when a load has ended.
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"finish\"") {
        line.clear();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "it ended without a load"
        );
    }
    let pid = child.id().to_string();
    let drain = std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let ended = child.wait_with_output().unwrap();
    let _ = drain.join();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.status);
    let said = String::from_utf8(ended.stdout).unwrap();
    let all: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let measured = of(&all, "measured");
    let has_rates = |row: &&Value| !row["rounds"].as_array().unwrap().is_empty();
    assert!(measured.iter().any(has_rates), "{said}");
    assert_eq!(all.last().unwrap()["error"]["kind"], "cancelled");
}
