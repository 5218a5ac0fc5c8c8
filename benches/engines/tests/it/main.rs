//! Every engine of the program, as the benches start it, against a recipe's bytes.

use std::process::Command;

use tensorlift_bench_protocol::{Checksum, Outcome, Request};
use tensorlift_fixture_kit::{CheckpointSpec, Format, presets};

const BOTH_FORMATS: [&str; 11] = [
    "tensorlift",
    "tensorlift-blake3",
    "tensorlift-sha256",
    "tensorlift-buffered",
    "tensorlift-direct",
    "tensorlift-uring",
    "tensorlift-map",
    "naive",
    "mapping",
    "pread-3x1",
    "pread-1x16",
];
const SAFETENSORS_ONLY: [&str; 2] = ["safetensors-map-copy", "safetensors-read"];

fn expected(spec: &CheckpointSpec) -> Checksum {
    let mut checksum = Checksum::default();
    for tensor in spec.expected() {
        checksum.tensor(&tensor.name, &tensor.bytes);
    }
    checksum
}

fn run(engine: &str, path: &std::path::Path) -> std::process::Output {
    let request = Request {
        engine: engine.to_owned(),
        path: path.to_owned(),
        prime_bytes: 1 << 20,
    };
    let program = env!("CARGO_BIN_EXE_bench-engines");
    let output = Command::new(program).args(request.arguments()).output();
    output.expect("the program starts")
}

fn check(engine: &str, spec: &CheckpointSpec) {
    let folder = tempfile::tempdir().unwrap();
    let written = spec.write(folder.path()).unwrap();
    let output = run(engine, &written.path);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{engine}: {stderr}");
    let outcome: Outcome = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome.checksum, expected(spec), "{engine}");
    assert!(outcome.seconds > 0.0, "{engine}");
}

#[test]
fn every_engine_loads_the_right_bytes() {
    for (format, engines) in [
        (Format::torch_zip(), BOTH_FORMATS.to_vec()),
        (
            Format::safetensors(),
            [&BOTH_FORMATS[..], &SAFETENSORS_ONLY].concat(),
        ),
    ] {
        // Longer than a chunk, by a length that no chunk divides.
        let one = presets::large(format.clone(), 3 << 20);
        let sharded = presets::many_tiny(format, 50).shards(3);
        for engine in engines {
            check(engine, &one);
            check(engine, &sharded);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn direct_reads_load_the_right_bytes_where_the_file_system_takes_them() {
    let spec = presets::large(Format::safetensors(), 3 << 20);
    let folder = tempfile::tempdir().unwrap();
    let written = spec.write(folder.path()).unwrap();
    let output = run("direct-2x1", &written.path);
    if !output.status.success() {
        let refusal = String::from_utf8_lossy(&output.stderr);
        assert!(refusal.contains("Invalid argument"), "{refusal}");
        return;
    }
    let outcome: Outcome = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome.checksum, expected(&spec));
}

#[test]
fn an_unknown_engine_and_a_missing_file_are_errors() {
    let output = run("no-such", "nowhere".as_ref());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no engine \"no-such\""));
    for engine in BOTH_FORMATS {
        let output = run(engine, "nowhere".as_ref());
        assert_eq!(output.status.code(), Some(1), "{engine}");
        assert!(!output.stderr.is_empty(), "{engine}");
    }
}
