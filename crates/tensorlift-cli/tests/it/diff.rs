//! `diff`: names and forms by headers alone, values on demand.

use std::path::Path;

use serde_json::Value;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use crate::{path, tensorlift};

fn diff(a: &Path, b: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let run = tensorlift(&[&["diff", a, b, "--json"], arguments].concat());
    let errors = String::from_utf8(run.stderr).unwrap();
    let object = serde_json::from_slice(&run.stdout);
    (
        run.status.code(),
        object.unwrap_or_else(|_| panic!("{errors}")),
    )
}

fn write(spec: &CheckpointSpec) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    spec.write(folder.path()).unwrap();
    folder
}

#[test]
fn one_model_in_two_formats_is_equal() {
    let (a, b) = (path("sharded-safetensors"), path("sharded-torch"));
    let (status, found) = diff(Path::new(&a), Path::new(&b), &["--values"]);
    assert_eq!(
        (status, &found["equal"]),
        (Some(0), &true.into()),
        "{found}"
    );
    assert_eq!(found["values"]["compared"], found["same"]);
    let text = tensorlift(&["diff", &a, &b]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("0 only in A, 0 only in B"), "{text}");
}

#[test]
fn names_and_forms_are_told_without_reading_values() {
    let spec = |dtype, more: &str| {
        let spec = CheckpointSpec::new(Format::safetensors()).tensor("w", dtype, [4]);
        write(&spec.tensor(more, Dtype::U8, [3]))
    };
    let (a, b) = (spec(Dtype::F32, "x"), spec(Dtype::F16, "y"));
    let (status, found) = diff(a.path(), b.path(), &[]);
    assert_eq!((status, &found["equal"]), (Some(1), &false.into()));
    assert_eq!(
        (&found["only_in_a"][0], &found["only_in_b"][0]),
        (&"x".into(), &"y".into())
    );
    assert_eq!(found["changed"][0]["name"], "w");
    assert_eq!(
        (&found["changed"][0]["a"]["dtype"], found.get("values")),
        (&"F32".into(), None)
    );
    let nothing = diff(a.path(), b.path(), &["--select", "nothing"]);
    assert_eq!(nothing.1["error"]["kind"], "not_found");
    let (status, found) = diff(a.path(), b.path(), &["--select", "y", "--values"]);
    assert_eq!((status, &found["only_in_b"][0]), (Some(1), &"y".into()));
}

#[test]
fn values_that_differ_are_told_by_how_far_and_the_worst_first() {
    // Larger than a part, in rows that do not divide evenly, so that parts are joined.
    let spec = CheckpointSpec::new(Format::safetensors())
        .tensor("large", Dtype::F32, [2001, 3000])
        .tensor("small", Dtype::F32, [8])
        .tensor("same", Dtype::I64, [8]);
    let (a, b) = (write(&spec), write(&spec));
    let file = b.path().join(&spec.file_names()[0]);
    let checkpoint = tensorlift::Checkpoint::open(&file).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let mut set = |name: &str, element: u64, value: f32| {
        let extent = checkpoint.catalog().get(name).unwrap().extent();
        let at = (extent.offset + element * 4) as usize;
        let old = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        f64::from((old - value).abs())
    };
    let far = set("large", 2001 * 3000 - 1, 1e9).max(set("large", 5, -1e3));
    let near = set("small", 3, 7.0);
    drop(checkpoint);
    std::fs::write(&file, bytes).unwrap();
    let (status, found) = diff(a.path(), b.path(), &["--values"]);
    assert_eq!(
        (status, found["changed"].as_array().unwrap().len()),
        (Some(1), 0)
    );
    let differing = found["values"]["differing"].as_array().unwrap();
    assert_eq!(
        (differing.len(), &found["values"]["compared"]),
        (2, &3.into())
    );
    for (name, count, apart) in [("large", 2, far), ("small", 1, near)] {
        let one = differing.iter().find(|it| it["name"] == name).unwrap();
        assert_eq!(one["differing"], count);
        let found = one["max_absolute"].as_f64().unwrap();
        assert!(
            (found - apart).abs() <= apart * 1e-6,
            "{name}: {found}, not {apart}"
        );
    }
    let worst = |index: usize| differing[index]["max_absolute"].as_f64().unwrap();
    assert!(worst(0) >= worst(1), "{found}");
    let loose = ["--values", "--atol", "1e39"];
    assert_eq!(diff(a.path(), b.path(), &loose).0, Some(0));
}

#[test]
fn a_broken_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("a.safetensors");
    std::fs::write(&broken, b"\x10\0\0\0\0\0\0\0{").unwrap();
    let (status, found) = diff(&broken, Path::new(&path("tiny-model")), &[]);
    assert_eq!(
        (status, &found["error"]["kind"]),
        (Some(1), &"malformed".into())
    );
}
