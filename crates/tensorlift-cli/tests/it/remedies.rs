//! Options that could do nothing unnoticed, and remedies that must help.

use std::fs;
use std::path::Path;
use std::process::Output;

use tensorlift::Checkpoint;
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use crate::{output, path, program, tensorlift};

/// The error of a run that must end with this status.
fn refused(arguments: &[&str], status: i32) -> String {
    let Output {
        status: found,
        stderr,
        ..
    } = tensorlift(arguments);
    let errors = String::from_utf8(stderr).unwrap();
    assert_eq!(found.code(), Some(status), "{arguments:?}: {errors}");
    errors
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_option_that_raises_a_limit_is_named() {
    let model = path("tiny-model");
    for (limit, option) in [
        (["--memory-bytes", "10"], "(with --memory-bytes)"),
        (["--limit", "tensors=1"], "(with --limit)"),
    ] {
        let errors = refused(&["load", &model, limit[0], limit[1]], 1);
        assert!(errors.trim_end().ends_with(option), "{errors}");
    }
}

#[test]
fn wrong_values_are_wrong_options() {
    let model = path("tiny-model");
    for arguments in [
        &["load", &model, "--threads", "-1"][..],
        &["diff", &model, &model, "--values", "--rtol", "-1"],
        &["diff", &model, &model, "--values", "--atol", "NaN"],
        &["plan", &model, "--device-map", "nope"],
        &["plan", &model, "--device-map", "a=b"],
        &["plan", &model, "--device-map", "auto", "--max-memory", "x"],
    ] {
        let errors = refused(arguments, 2);
        assert!(errors.contains("expected "), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_misspelt_variable_is_told() {
    let mut load = program();
    load.args(["load", &path("tiny-model")])
        .env("TENSORLIFT_THREAD", "3");
    let run = load.output().unwrap();
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(errors.contains("TENSORLIFT_THREADS is one"), "{errors}");
}

#[test]
fn a_rename_that_fits_no_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    let model = path("tiny-model");
    let rename = ["--rename", "embeddings.*=e.*", "--rename", "encodr.*=x.*"];
    let errors = refused(&[&["convert", &model, text(&to)], &rename[..]].concat(), 1);
    assert!(errors.contains("no name matches encodr.*"), "{errors}");
    assert!(!to.exists());
}

#[test]
fn a_pattern_that_fits_no_name_is_told() {
    let run = tensorlift(&[
        "inspect",
        &path("tiny-model"),
        "--summary",
        "--select",
        "pooler",
        "--select",
        "poolr",
    ]);
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success());
    assert_eq!(errors, "note: no name matches poolr\n");
}

#[test]
#[cfg(unix)]
fn names_of_files_send_nothing_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a\u{1b}[31m.safetensors");
    fs::copy(path("tiny-model/model.safetensors"), &file).unwrap();
    let out = folder.path().join("b\u{1b}[31m.safetensors");
    let none = folder.path().join("c\u{1b}[31m.safetensors");
    for arguments in [
        &["load", text(&file), "--explain"][..],
        &["convert", text(&file), text(&out)],
        &["inspect", text(&file)],
        &["doctor", text(&file)],
        &["load", text(&none)],
    ] {
        let run = tensorlift(arguments);
        let said = [run.stdout, run.stderr].concat();
        assert!(!said.contains(&0x1b), "{arguments:?}");
    }
}

#[test]
fn a_folder_to_write_into_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("none/out.safetensors");
    let errors = refused(&["convert", &path("tiny-model"), text(&to)], 1);
    let parent = text(to.parent().unwrap());
    assert!(errors.contains(parent) && errors.contains("make the folder"));
    fs::create_dir(parent).unwrap();
    output(&["convert", &path("tiny-model"), text(&to)]);
}

#[test]
fn records_with_another_checksum_are_converted_on_request_alone() {
    let folder = tempfile::tempdir().unwrap();
    let spec = CheckpointSpec::new(Format::torch_zip()).tensor("w", Dtype::U8, [4096]);
    let file = spec.write(folder.path()).unwrap().files[0].clone();
    let checkpoint = Checkpoint::open(&file).unwrap();
    let record = checkpoint
        .catalog()
        .record(&checkpoint.catalog().entries()[0]);
    let at = usize::try_from(record.extent().offset).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();

    let to = folder.path().join("out.safetensors");
    let errors = refused(&["convert", text(&file), text(&to)], 1);
    assert!(errors.contains("CRC-32"), "{errors}");
    assert!(!to.exists());
    output(&["convert", text(&file), text(&to), "--verify=false"]);
    assert!(to.exists());
}

#[test]
fn modules_of_a_model_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("model"), folder.path().join("out"));
    fs::create_dir_all(from.join("1_Pooling")).unwrap();
    fs::create_dir_all(from.join("onnx")).unwrap();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(Path::new(&path("tiny-model")).join(name), from.join(name)).unwrap();
    }
    let modules = r#"[{"path": ""}, {"path": "1_Pooling"}, {"path": "../outside"}]"#;
    fs::write(from.join("modules.json"), modules).unwrap();
    fs::write(from.join("1_Pooling/config.json"), "{}").unwrap();
    fs::write(from.join("onnx/config.json"), "{}").unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    fs::write(folder.path().join("outside/x.json"), "{}").unwrap();

    for more in [&[][..], &["--force"]] {
        output(&[&["convert", text(&from), text(&to)], more].concat());
        assert_eq!(fs::read(to.join("1_Pooling/config.json")).unwrap(), b"{}");
        assert!(to.join("config.json").exists() && !to.join("onnx").exists());
        // The second one writes into a folder that is there and lacks a module.
        fs::remove_dir_all(to.join("1_Pooling")).unwrap();
    }
    let names = fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 3, "something was left behind");
}

#[test]
fn the_doctor_wants_a_path_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["doctor", text(&folder.path().join("none"))], 1);
    let findings = output(&["doctor", text(folder.path())]);
    assert!(findings.contains("has no file to try"), "{findings}");
    assert!(
        !findings.contains("the kernel does not report"),
        "{findings}"
    );
}

#[test]
fn what_was_found_comes_before_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    fs::copy(path("tiny-model/model.safetensors"), &model).unwrap();
    let list = folder.path().join("tensorlift-manifest.json");
    output(&["manifest", text(folder.path()), "--out", text(&list)]);
    fs::write(&model, "another").unwrap();
    let said = folder.path().join("said");
    let both = fs::File::create(&said).unwrap();
    let mut verify = program();
    verify.args(["verify", text(folder.path())]);
    verify.stdout(both.try_clone().unwrap()).stderr(both);
    assert_eq!(verify.status().unwrap().code(), Some(1));
    let said = fs::read_to_string(&said).unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{said}");
}
