//! Options of a load, their environment variables, and what `--explain` shows of them.

use serde_json::Value;

use crate::{output, path, program, tensorlift};

/// Each option of choice, a value, and what shows it in the report or the error.
const CHOICES: &[(&str, &str, &str)] = &[
    ("mode", "map", r#""reader":"map""#),
    ("merge-gap-bytes", "0", r#""segments":20"#),
    ("device", "null", r#""devices":["null"]"#),
    ("gds", "off", r#""devices":["host"]"#),
    ("reader", "buffered", "buffered reads were requested"),
    ("page-cache", "bypass", r#""tensors":20"#),
    ("threads", "1", r#""threads":1"#),
    ("chunk-bytes", "4096", r#""reads":3"#),
    ("memory-bytes", "1", "the limit is 1"),
    ("staging-bytes", "1", r#""tensors":20"#),
    ("open-shards", "1", r#""tensors":20"#),
    ("dtype", "bf16", r#""tensors":20"#),
    ("preferred-format", "torch", r#""tensors":20"#),
    ("fallback", "true", r#""tensors":20"#),
    ("verify", "true", r#""verified":{"records":20"#),
];

/// Options that are no choice of how to load.
const OTHERS: &[&str] = &[
    "files",
    "index",
    "no-index",
    "variant",
    "root",
    "select",
    "strict",
    "limit",
    "json",
    "log",
    "verbose",
    "explain",
    "help",
    "version",
    "device-map",
    "max-memory",
    "no-split",
    "manifest",
    "signature",
    "key",
];

fn variable(option: &str) -> String {
    format!("TENSORLIFT_{}", option.to_uppercase().replace('-', "_"))
}

#[test]
fn each_choice_is_an_option_and_a_variable() {
    let target = path("sharded-torch");
    for &(option, value, shows) in CHOICES {
        let long = format!("--{option}");
        let arguments = ["load", &target, "--json", &long, value];
        let arguments = match option {
            "verify" | "fallback" => &arguments[..4],
            _ => &arguments[..],
        };
        let by_option = tensorlift(arguments);
        let mut command = program();
        command.args(["load", &target, "--json"]);
        let by_variable = command.env(variable(option), value).output().unwrap();
        for found in [by_option, by_variable] {
            let found = String::from_utf8(found.stdout).unwrap();
            assert!(found.contains(shows), "{option}: {found}");
        }
        let mut command = program();
        command.args(["load", &target, "--json"]);
        let refused = command.env(variable(option), "so-so").output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{option}");
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains("so-so") && errors.contains(&variable(option)),
            "{errors}"
        );
        let wrong = format!("{long}=so-so");
        let refused = tensorlift(&["load", &target, &wrong]);
        assert_eq!(refused.status.code(), Some(2), "{option}");
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains(&long) && errors.contains("expected"),
            "{errors}"
        );
        let mut command = program();
        command.args(["load", &target, "--json"]);
        let empty = command.env(variable(option), "").output().unwrap();
        assert!(empty.status.success(), "{option}");
    }
}

#[test]
fn no_choice_is_without_a_variable() {
    for command in ["load", "plan"] {
        let help = output(&[command, "--help"]);
        let options = help.lines().filter_map(|line| line.trim().split_once("--"));
        let long = options
            .filter(|(before, _)| before.is_empty() || before.ends_with(", "))
            .map(|(_, after)| after.split([' ', '.', '[']).next().unwrap());
        for option in long.filter(|option| !OTHERS.contains(option)) {
            assert!(
                help.contains(&format!("[env: {}]", variable(option))),
                "{option}"
            );
            assert!(
                CHOICES.iter().any(|(other, ..)| *other == option),
                "{option}"
            );
        }
    }
}

#[test]
fn plans_depend_on_the_same_choices_as_loads() {
    let target = path("sharded-torch");
    let segments = |arguments: &[&str]| {
        let plan = output(&[&["plan", &target, "--json"], arguments].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        plan["segments"].as_array().unwrap().len()
    };
    assert!(segments(&["--merge-gap-bytes", "0"]) > segments(&[]));
    let mapped = output(&["plan", &target, "--mode", "map"]);
    assert!(mapped.contains("a mapping of shard 2"), "{mapped}");
    let mut command = program();
    command
        .args(["plan", &target])
        .env("TENSORLIFT_MODE", "map");
    assert_eq!(command.output().unwrap().stdout, mapped.as_bytes());
}

#[test]
fn load_explains_plan_probes_and_choices() {
    for name in ["sharded-safetensors", "sharded-torch"] {
        let target = path(name);
        let text = output(&["load", &target, "--explain"]);
        let plan = output(&["plan", &target]);
        assert!(text.starts_with(&plan), "{text}");
        let shards = plan.lines().filter_map(|line| line.strip_prefix("shard "));
        let paths: Vec<_> = shards
            .map(|line| line.split_once(": ").unwrap().1)
            .collect();
        assert_eq!(paths.len(), 3);
        for path in &paths {
            assert!(path.contains("-of-00003"), "{path}");
            // Once in the list, once for the probe, once in the report.
            assert_eq!(text.matches(path).count(), 3, "{text}");
        }
        for choice in [
            "read by buffered",
            "map not used: ",
            "direct not used: ",
            "in flight",
        ] {
            assert!(text.matches(choice).count() >= 3, "{choice}: {text}");
        }

        let json = output(&["load", &target, "--explain", "--json"]);
        let lines: Vec<Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [explanation, report] = &lines[..] else {
            panic!("{json}");
        };
        assert_eq!(explanation["plan"]["segments"].as_array().unwrap().len(), 3);
        let files = explanation["files"].as_array().unwrap();
        assert_eq!(files.len(), 3);
        for (file, path) in files.iter().zip(paths) {
            assert_eq!(file["path"], path);
            assert_eq!(file["refused"][0]["reader"], "map");
        }
        assert_eq!(report["tensors"], 20);
    }
}

#[test]
fn a_root_that_is_not_there_lists_others_only_where_there_are_some() {
    let error = |name: &str| {
        let failed = tensorlift(&["inspect", &path(name), "--root", "nope"]);
        assert_eq!(failed.status.code(), Some(1));
        String::from_utf8(failed.stderr).unwrap()
    };
    let flat = error("tiny-model");
    assert!(
        flat.contains("no tensor is below \"nope\"; leave"),
        "{flat}"
    );
}
