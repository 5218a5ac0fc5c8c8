//! The whole bench in small, over the double of the driver, which is not CUDA and measures nothing.
#![cfg(target_os = "linux")]

use std::process::Command;

use serde_json::Value;
use tensorlift_fake_cuda::harness::{link, search_path};

fn bench(folder: &std::path::Path, arguments: &[&str]) -> Value {
    let drivers = folder.join("drivers");
    std::fs::create_dir_all(&drivers).unwrap();
    if !drivers.join("libcuda.so.1").exists() {
        link(&drivers, true);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-cuda"));
    command
        .current_dir(folder)
        .args(["--disk", "disk", "--tmpfs", "tmpfs", "--out", "out"])
        .args(arguments)
        .env("LD_LIBRARY_PATH", search_path(&drivers));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&std::fs::read(folder.join("out.json")).unwrap()).unwrap()
}

#[test]
fn every_engine_of_ours_brings_the_right_bytes_in_every_case() {
    // The disk of the build: what lies in memory has no direct reads.
    let own = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let results = bench(folder.path(), &["--smoke"]);
    let cases = results["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2 + 2 + 1 + 2 + 2 + 1);
    for case in cases {
        // A bench that cannot cool files measures nothing cold, and says so.
        if case["cache"] == "cold" && case["not_run"].is_string() {
            continue;
        }
        let rows = case["rows"].as_array().unwrap();
        let engines: Vec<_> = rows
            .iter()
            .map(|row| row["engine"].as_str().unwrap())
            .collect();
        // Three limits, and what comes of ours.
        let expected = match case["cache"].as_str().unwrap() {
            _ if case["name"].as_str().unwrap().starts_with("host") => 3 + 1,
            "tmpfs" => 3 + 3,
            _ => 3 + 6,
        };
        let mut names = engines.clone();
        names.dedup();
        assert_eq!(names.len(), expected, "{engines:?}");
        for row in rows {
            // The bytes were compared by the bench itself.
            assert_eq!(row["runs"].as_array().unwrap().len(), 1, "{row}");
        }
        // A load again, pinned memory, and the device's memory of a run of its own.
        for row in rows.iter().filter(|row| row["engine"] == "tensorlift") {
            assert!(row["runs"][0]["again"].is_number(), "{row}");
            assert!(
                row["runs"][0]["pinned"].as_u64().unwrap() <= 128 << 20,
                "{row}"
            );
            assert!(row["device_growth"].is_number(), "{row}");
        }
        let own = |row: &&Value| row["setting"] == "cuda-gds";
        for row in rows.iter().filter(own) {
            let note = row["runs"][0]["note"].as_str().unwrap();
            assert!(note.contains("by the device itself"), "{note}");
        }
    }
    let page = std::fs::read_to_string(folder.path().join("out.md")).unwrap();
    assert!(page.contains("tensorlift, GDS"), "{page}");
}

#[test]
fn peers_that_are_not_there_and_time_that_is_over_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let one = [
        "--filter",
        "tiny-20000/safetensors/1-file/tmpfs",
        "--rounds",
        "1",
    ];
    let results = bench(
        folder.path(),
        &[&one[..], &["--python", "no-such-python"]].concat(),
    );
    let rows = results["cases"][0]["rows"].as_array().unwrap();
    let (peers, ours): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["program"] == "python");
    assert!(!peers.is_empty());
    assert!(peers.iter().all(|row| row["failure"].is_string()));
    assert!(
        ours.iter()
            .all(|row| row["runs"].as_array().unwrap().len() == 1)
    );
    // What was measured before stays.
    let again = bench(folder.path(), &["--minutes", "0"]);
    assert_eq!(again["cases"], results["cases"]);
}
