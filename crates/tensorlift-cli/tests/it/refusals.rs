//! Refusals, word by word: the Python package is held to the same table.

use serde_json::Value;
use tensorlift_fixture_kit::committed;

use super::tensorlift;

#[test]
fn broken_files_are_refused_in_these_words() {
    let table = std::fs::read(committed::folder().join("refusals.json")).unwrap();
    let table: Vec<Value> = serde_json::from_slice(&table).unwrap();
    assert!(table.len() > 10);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    for row in table {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(text(&row, "file"));
        std::fs::write(&path, bytes(&text(&row, "hex"))).unwrap();
        let path = path.to_str().unwrap();
        let run = tensorlift(&["load", path]);
        let told = String::from_utf8(run.stderr).unwrap();
        let told = told.trim_end().replace(path, "PATH");
        // The option of the command line that raises a limit.
        let told = told.replace(" (with --limit)", "");
        assert_eq!(told, format!("error: {}", text(&row, "error")));
        assert_eq!(run.status.code(), Some(1));
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
