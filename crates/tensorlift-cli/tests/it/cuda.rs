//! The command line with a GPU, over the double of the driver, which is not CUDA.

use std::process::{Command, Output};

use serde_json::Value;
use tensorlift_fake_cuda::harness::{link, search_path};

use crate::path;

/// Runs where the driver is the double; without it there is none at all.
fn with_gpu(arguments: &[&str], cufile: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    link(folder.path(), cufile);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorlift"));
    command.args(arguments);
    command.env("LD_LIBRARY_PATH", search_path(folder.path()));
    command.output().unwrap()
}

fn report(arguments: &[&str], cufile: bool) -> Value {
    let output = with_gpu(arguments, cufile);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn load_takes_both_formats_to_a_gpu() {
    for name in ["tiny-model", "sharded-safetensors", "sharded-torch"] {
        let target = path(name);
        let host = crate::output(&["load", &target, "--json"]);
        let host: Value = serde_json::from_str(&host).unwrap();
        for (device, gds) in [
            ("cuda:0", "off"),
            ("cuda:0", "auto"),
            ("cuda", "on"),
            ("auto", "on"),
        ] {
            let arguments = ["load", &target, "--json", "--device", device, "--gds", gds];
            let report = report(&arguments, true);
            assert_eq!(report["devices"], serde_json::json!(["cuda:0"]));
            assert_eq!(report["tensors"], host["tensors"]);
            assert_eq!(report["bytes_wanted"], host["bytes_wanted"]);
            let files = report["files"].as_array().unwrap();
            for file in files {
                assert_eq!(file["pulled_by_device"], gds == "on", "{file}");
            }
        }
    }
}

#[test]
fn device_maps_ask_gpus_what_they_have_free() {
    let output = with_gpu(
        &["plan", &path("tiny-model"), "--device-map", "auto"],
        false,
    );
    let text = String::from_utf8(output.stdout).unwrap();
    // The double has 1 GiB.
    assert!(text.starts_with("device 0: "), "{text}");
    assert!(
        text.contains(" of 1073741824 bytes\ndevice cpu: 0 of "),
        "{text}"
    );
}

#[test]
fn staging_stays_within_what_was_said() {
    let target = path("tiny-model");
    let load = [
        "load", &target, "--json", "--device", "cuda:0", "--gds", "off",
    ];
    let four = ["--threads", "4", "--chunk-bytes", "4096"];
    // The checkpoint fits one lane of two slots of 2 MiB; the budget counts both.
    for staging in ["100000000", "9000", "0"] {
        let arguments = [&load[..], &four, &["--staging-bytes", staging]].concat();
        let report = report(&arguments, false);
        assert_eq!(report["threads"], 1, "{report}");
        assert_eq!(report["peak_staging_bytes"], 4 << 20, "{report}");
    }
}

#[test]
fn gds_that_was_asked_for_and_is_not_there_is_a_warning() {
    let target = path("tiny-model");
    let output = with_gpu(
        &["load", &target, "--device", "cuda:0", "--gds", "on"],
        false,
    );
    assert!(output.status.success());
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(warning.contains("no GPUDirect Storage: "), "{warning}");
    let report = report(
        &[
            "load", &target, "--device", "cuda:0", "--gds", "on", "--json",
        ],
        false,
    );
    assert_eq!(report["files"][0]["pulled_by_device"], false);
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_auto_takes_the_host() {
    let target = path("tiny-model");
    let output = with_gpu(&["load", &target, "--device", "cuda:7"], false);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("7 is not among them"), "{errors}");
    // No driver at all: this machine's own would be found where it has one.
    let report = crate::output(&["load", &target, "--json", "--device", "auto"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(["host", "cuda:0"].contains(&report["devices"][0].as_str().unwrap()));
}

#[test]
fn doctor_names_the_gpu_and_what_reads_files() {
    for cufile in [true, false] {
        let output = with_gpu(&["doctor", &path("tiny-model"), "--json"], cufile);
        assert!(output.status.success());
        let lines = String::from_utf8(output.stdout).unwrap();
        let findings: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let finding = |what: &str| findings.iter().find(|it| it["what"] == what).unwrap();
        assert_eq!(finding("cuda")["found"], "driver for CUDA 13.0");
        assert_eq!(finding("gpu")["ok"], true);
        // What the system has is told; cuFile is not asked.
        assert_eq!(finding("GPUDirect Storage")["ok"], true);
        // A remedy for what is lacking, and for nothing else.
        for finding in &findings {
            assert_eq!(
                finding["ok"] == false,
                finding["remedy"].is_string(),
                "{finding}"
            );
        }
        for what in [
            "io_uring",
            "direct reads",
            "huge pages",
            "locked memory",
            "page size",
        ] {
            finding(what);
        }
    }
}

#[test]
fn bench_measures_the_start_the_copies_and_the_pipeline() {
    let target = path("tiny-model");
    let arguments = [
        "bench", &target, "--json", "--rounds", "1", "--start", "warm", "--device", "cuda:0",
    ];
    let output = with_gpu(&arguments, false);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let started = lines.iter().find(|it| it["line"] == "device").unwrap();
    assert_eq!(started["device"], "cuda:0");
    assert!(started["start_seconds"].is_f64() && started["pinning_seconds"].is_f64());
    // The checkpoint fits one lane of two slots of 2 MiB.
    assert_eq!(
        (&started["lanes"], &started["pinned_bytes"]),
        (&1.into(), &(4 << 20).into())
    );
    for work in ["load", "pipeline", "copies", "raw"] {
        let mut rows = lines.iter().filter(|row| row["work"] == work);
        assert!(rows.any(|row| row["median"].is_f64()), "{work}: {said}");
    }
    let is_mapping = |row: &&Value| row["set"]["mode"] == "map";
    assert!(!lines.iter().any(|row| is_mapping(&row)), "{said}");
}
