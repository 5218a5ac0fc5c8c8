//! `tensorlift plan --device-map`.

use super::{output, path, tensorlift};

fn plan(arguments: &[&str]) -> Vec<String> {
    let target = path("tiny-model");
    let mut all = vec!["plan".to_owned(), target];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    all
}

fn map(arguments: &[&str]) -> String {
    let all = plan(arguments);
    output(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_exit_status_says_whether_it_fits() {
    let text = map(&["--device-map", "auto", "--max-memory", "0=1GB,cpu=1GiB"]);
    assert!(text.starts_with("device 0: "), "{text}");
    assert!(text.contains("device cpu: 0 of 1073741824 bytes"), "{text}");
    assert!(text.contains("encoder.layer.0 = 0 ("), "{text}");
    for refused in [
        &["--device-map", "auto", "--max-memory", "0=1KB"][..],
        &["--device-map", "auto", "--max-memory", "disk=1GB"],
        &["--device-map", "nonsense", "--max-memory", "0=1GB"],
        &[
            "--device-map",
            "encoder=0,encoder=cpu,=cpu",
            "--max-memory",
            "0=1GB",
        ],
    ] {
        let all = plan(refused);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(!tensorlift(&all).status.success(), "{refused:?}");
    }
}

#[test]
fn patterns_place_what_they_match() {
    let text = map(&[
        "--device-map",
        "=cpu,encoder.layer.1=0",
        "--max-memory",
        "0=1GB,cpu=1GB",
    ]);
    assert!(text.contains("encoder.layer.0 = cpu ("), "{text}");
    assert!(text.contains("encoder.layer.1 = 0 ("), "{text}");
}

#[test]
fn conversion_halves_what_is_needed() {
    let bytes = |dtype: &str| -> u64 {
        let arguments = [
            "--json",
            "--device-map",
            "auto",
            "--max-memory",
            "cpu=1GB",
            "--dtype",
            dtype,
        ];
        let map: serde_json::Value = serde_json::from_str(&map(&arguments)).unwrap();
        map["devices"][0]["bytes"].as_u64().unwrap()
    };
    let (whole, half) = (bytes("keep"), bytes("bf16"));
    assert!(half < whole && half * 2 > whole, "{half} of {whole}");
}
