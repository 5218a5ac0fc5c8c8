//! The command line, as a program.

mod additions;
mod bench;
mod commands;
mod convert;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda;
mod device_map;
mod diff;
mod field;
mod json_schema;
mod kit;
#[cfg(target_os = "linux")]
mod limits;
mod log;
mod options;
mod refusals;
mod remedies;
mod schemas;
mod trust;

use std::path::Path;
use std::process::{Command, Output};

use tensorlift_fixture_kit::committed;

/// The program, deaf to what the environment says of loads.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorlift"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENSORLIFT_") {
            command.env_remove(name);
        }
    }
    command
}

fn tensorlift(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
fn output(arguments: &[&str]) -> String {
    let output = tensorlift(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn path(name: &str) -> String {
    committed::folder().join(name).to_str().unwrap().to_owned()
}

#[test]
fn inspect_prints_a_json_object_for_each_tensor() {
    for name in ["sharded-safetensors", "sharded-torch", "torch/views.pt"] {
        let committed = committed::one(name);
        let lines = output(&["inspect", &path(name), "--json", "--hash"]);
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), committed.tensors.len());
        for (line, tensor) in lines.iter().zip(&committed.tensors) {
            assert_eq!(line["name"], tensor.name.as_str());
            assert_eq!(line["dtype"], tensor.dtype.as_str());
            assert_eq!(line["shape"], serde_json::json!(tensor.shape));
            assert_eq!(line["bytes"], tensor.bytes);
            assert_eq!(line["sha256"].as_str(), tensor.sha256.as_deref());
            assert!(Path::new(line["file"].as_str().unwrap()).is_file());
        }
    }
}

#[test]
fn inspect_prints_a_table_with_totals() {
    let table = output(&["inspect", &path("tiny-model")]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].starts_with("name") && rows[0].contains("dtype"),
        "{table}"
    );
    assert!(rows.iter().any(|row| row.starts_with("all")), "{table}");
    let shares = rows.iter().filter(|row| row.contains(" %"));
    let shares = shares.map(|row| row.split_whitespace().nth_back(1).unwrap());
    let shares: Vec<f64> = shares.map(|share| share.parse().unwrap()).collect();
    let (all, of_dtypes) = shares.split_last().unwrap();
    assert!(*all == 100.0 && !of_dtypes.is_empty(), "{table}");
    assert!(
        (of_dtypes.iter().sum::<f64>() - 100.0).abs() < 0.5,
        "{table}"
    );
    assert!(!table.contains('█'), "bars are for terminals");
    assert!(
        rows.last().unwrap().starts_with("beside the weights"),
        "{table}"
    );
}

#[test]
fn load_reports_what_it_took() {
    for arguments in [
        &["--mode", "copy", "--threads", "2"][..],
        &["--mode", "map"],
        &["--reader", "direct", "--page-cache", "drop-after"],
        &["--reader", "buffered", "--chunk-bytes", "4096"],
    ] {
        let target = path("tiny-model");
        let arguments = [&["load", &target, "--json"], arguments].concat();
        let report: serde_json::Value = serde_json::from_str(&output(&arguments)).unwrap();
        assert_eq!(report["tensors"], 40);
        assert_eq!(report["bytes_wanted"], 93_440);
        let phases = report["phases"].as_object().unwrap();
        let sum: f64 = phases
            .values()
            .map(|seconds| seconds.as_f64().unwrap())
            .sum();
        assert!((sum - report["wall_seconds"].as_f64().unwrap()).abs() < 1e-6);
        assert!(!report["files"][0]["refused"].as_array().unwrap().is_empty());
    }
    assert!(output(&["load", &path("tiny-model")]).starts_with("40 tensors, 93.4 kB"));
}

#[test]
fn plan_reads_nothing_and_shows_where_to() {
    let target = path("sharded-safetensors");
    let plan: serde_json::Value =
        serde_json::from_str(&output(&["plan", &target, "--json"])).unwrap();
    assert_eq!(plan["segments"].as_array().unwrap().len(), 3);
    assert!(output(&["plan", &target]).contains("shard 2"));
}

#[test]
fn failures_are_one_message_and_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("model.safetensors");
    std::fs::write(&broken, b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}").unwrap();
    let broken = broken.to_str().unwrap();
    for command in ["inspect", "load", "plan"] {
        let failed = tensorlift(&[command, broken, "--json"]);
        assert_eq!(failed.status.code(), Some(1));
        let errors = String::from_utf8(failed.stderr).unwrap();
        assert!(
            errors.starts_with("error: ") && errors.contains(broken),
            "{errors}"
        );
        assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
        let object: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
        assert_eq!(object["error"]["kind"], "malformed");
        assert!(
            object["error"]["message"]
                .as_str()
                .unwrap()
                .contains("header")
        );
    }
    let missing = tensorlift(&["load", "no/such/file.safetensors"]);
    assert_eq!(
        (missing.status.code(), missing.stdout.is_empty()),
        (Some(1), true)
    );
}

#[test]
fn usage_errors_are_status_2() {
    for arguments in [
        &["load"][..],
        &["lift"],
        &["load", "x", "--threads", "0"],
        &["load", "x", "--mode", "lazy"],
        &["load", "x", "--reader", "psychic"],
    ] {
        assert_eq!(
            tensorlift(arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    assert!(tensorlift(&["--help"]).status.success());
}

/// Loads by one thread with at most `most` descriptors, standard streams included.
#[cfg(target_os = "linux")]
fn with_descriptors(most: usize, target: &Path, arguments: &[&str]) -> Output {
    // Others may have been inherited.
    let script = format!("exec 3<&- 4<&- 5<&- 6<&-; ulimit -n {most}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tensorlift")]);
    command.args(["load", "--json", "--threads", "1", "--chunk-bytes", "4096"]);
    command.arg(target).args(arguments);
    command.env("RAYON_NUM_THREADS", "1").output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_shards_need_few_descriptors() {
    use tensorlift_fixture_kit::{CheckpointSpec, Format};
    use tensorlift_tensor_meta::Dtype;

    let folder = tempfile::tempdir().unwrap();
    let spec = CheckpointSpec::new(Format::safetensors()).shards(1000);
    let name = |index| format!("t{index}");
    // Three chunks in each shard, so that shards take turns.
    let spec = (0..1000).fold(spec, |spec, index| {
        spec.tensor(name(index), Dtype::U8, [9000])
    });
    spec.write(folder.path()).unwrap();

    for (most, arguments) in [(32, &[][..]), (4, &["--open-shards", "1"])] {
        let enough = with_descriptors(most, folder.path(), arguments);
        let errors = String::from_utf8_lossy(&enough.stderr);
        assert!(enough.status.success(), "{most}: {errors}");
        let report: serde_json::Value = serde_json::from_slice(&enough.stdout).unwrap();
        assert_eq!(
            (&report["tensors"], &report["bytes_wanted"]),
            (&1000.into(), &9_000_000.into())
        );
    }

    // One descriptor is left, and two shards take turns at least.
    let too_few = with_descriptors(4, folder.path(), &[]);
    assert_eq!(too_few.status.code(), Some(1));
    let object: serde_json::Value = serde_json::from_slice(&too_few.stdout).unwrap();
    assert_eq!(object["error"]["kind"], "storage");
    let file = object["error"]["file"].as_str().unwrap();
    assert!(file.ends_with("-00002-of-01000.safetensors"), "{file}");
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.contains("Too many open files"), "{message}");
}
