use std::collections::HashSet;

use safetensors::SafeTensors;
use tensorlift_fixture_kit::hostile::{self, Verdict};

#[test]
fn there_are_several_hundred_cases_with_names_of_their_own() {
    let cases = hostile::cases();
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() > 600, "{} cases", cases.len());
    for case in &cases {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        assert!(case.name.chars().all(plain), "{}", case.name);
        assert!(
            !case.why.is_empty() && !case.why.ends_with('.'),
            "{}",
            case.name
        );
    }
    let count =
        |wanted: fn(&Verdict) -> bool| cases.iter().filter(|case| wanted(&case.verdict)).count();
    assert!(count(|verdict| matches!(verdict, Verdict::Loads { .. })) > 60);
    assert!(count(|verdict| *verdict == Verdict::Refused) > 300);
}

#[test]
fn cases_are_small_and_always_the_same() {
    for case in hostile::cases() {
        let files = case.files();
        let size: usize = files.iter().map(|file| file.bytes.len()).sum();
        assert!(size < 8 << 20, "{} has {size} bytes", case.name);
        assert!(case.bytes() == files[0].bytes, "{}", case.name);
        assert!(files == case.files(), "{} differs", case.name);
    }
}

#[test]
fn no_case_is_another_one_again() {
    let mut seen = HashSet::new();
    let mut repeated = Vec::new();
    for case in hostile::cases() {
        let files = case.files().into_iter();
        let contents: Vec<_> = files.map(|file| (file.path, file.bytes)).collect();
        if !seen.insert(contents) {
            repeated.push(case.name);
        }
    }
    assert!(repeated.is_empty(), "{repeated:?}");
}

#[test]
fn the_safetensors_crate_agrees_where_the_format_decides() {
    // What the crate is known to accept: the last of two equal names wins.
    let known = ["duplicate-same"];
    let mut checked = 0;
    for case in hostile::cases() {
        let Some(name) = case.name.strip_prefix("safetensors-") else {
            continue;
        };
        let bytes = case.bytes();
        let file = SafeTensors::deserialize(&bytes);
        match &case.verdict {
            Verdict::Loads { tensors } => {
                let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(file.len(), tensors.len(), "{name}");
                for tensor in tensors {
                    let view = file.tensor(&tensor.name).unwrap();
                    assert_eq!(view.dtype().to_string(), tensor.dtype.as_str(), "{name}");
                    assert_eq!(view.shape(), tensor.shape, "{name}");
                    assert_eq!(view.data(), tensor.bytes, "{name}");
                }
            }
            Verdict::Refused => {
                assert_eq!(
                    file.is_ok(),
                    known.contains(&name),
                    "{name}: {:?}",
                    file.err()
                );
            }
            Verdict::Either => {}
        }
        checked += 1;
    }
    assert!(checked > 120, "{checked} cases");
}

#[test]
fn everything_is_written_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = hostile::write_all(folder.path()).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let lines = manifest.as_array().unwrap();
    assert_eq!(lines.len(), hostile::cases().len());
    for line in lines {
        let path = folder.path().join(line["path"].as_str().unwrap());
        assert!(path.exists(), "{line}");
        let verdict = line["verdict"].as_str().unwrap();
        assert!(["loads", "refused", "either"].contains(&verdict));
        assert_eq!(verdict == "loads", line["tensors"].is_array(), "{line}");
    }
}
