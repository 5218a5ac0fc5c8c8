//! Files beside the weights that a folder keeps: configuration, tokenizer, licence.

use std::fs;
use std::path::{Path, PathBuf};

use tensorlift::Checkpoint;

/// Endings of such files.
const ENDINGS: [&str; 9] = [
    "jinja", "json", "md", "model", "py", "tiktoken", "txt", "yaml", "yml",
];
/// Names of such files without an ending.
const NAMES: [&str; 3] = ["LICENCE", "LICENSE", "NOTICE"];

/// The files beside a checkpoint that go with it into another folder: those of its folder with the
/// endings of text and tokenizers, without indexes of weights and hidden files.
///
/// A file that was named alone has none: what is beside it need not belong to it.
pub(super) fn companions(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    if checkpoint.choice().route == tensorlift::Route::File {
        return Vec::new();
    }
    let entries = fs::read_dir(checkpoint.folder())
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_companion(path) && path.is_file())
        .collect();
    files.sort();
    files
}

fn is_companion(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let ending = Path::new(name)
        .extension()
        .and_then(|ending| ending.to_str());
    let is_known = match ending {
        Some(ending) => ENDINGS.contains(&ending),
        None => NAMES.contains(&name),
    };
    is_known && !name.starts_with('.') && !name.ends_with(".index.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_indexes_are_no_companions() {
        for name in [
            "config.json",
            "tokenizer.model",
            "vocab.txt",
            "LICENSE",
            "chat_template.jinja",
        ] {
            assert!(is_companion(Path::new(name)), "{name}");
        }
        for name in [
            "model.safetensors",
            "model.safetensors.index.json",
            ".gitattributes",
            "a.bin",
            "x",
        ] {
            assert!(!is_companion(Path::new(name)), "{name}");
        }
    }
}
