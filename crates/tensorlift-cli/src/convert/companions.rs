//! Files beside the weights that a folder keeps: configuration, tokenizer, licence.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

use serde::Deserialize;
use tensorlift::{Checkpoint, Result};

use crate::trust::files_below;

/// Endings of such files.
const ENDINGS: [&str; 9] = [
    "jinja", "json", "md", "model", "py", "tiktoken", "txt", "yaml", "yml",
];
/// Names of such files without an ending.
const NAMES: [&str; 3] = ["LICENCE", "LICENSE", "NOTICE"];
/// Where sentence-transformers lists the modules of a model.
const MODULES: &str = "modules.json";
/// The most bytes of that list that are read.
const MODULES_BYTES: u64 = 1 << 20;

/// A module of a sentence-transformers model.
#[derive(Deserialize)]
struct Module {
    /// The folder with its configuration, and its weights where it has some; empty for that of
    /// the model.
    path: String,
}

/// The files beside a checkpoint that go with it into another folder, by their names there: those
/// of its folder with the endings of text and tokenizers, without indexes of weights and hidden
/// files, and the folders of further modules that `modules.json` lists.
///
/// A file that was named alone has none: what is beside it need not belong to it.
pub(super) fn companions(checkpoint: &Checkpoint) -> Result<Vec<String>> {
    if checkpoint.choice().route == tensorlift::Route::File {
        return Ok(Vec::new());
    }
    // Of an index that is named without a folder, it is the current one.
    let folder = Path::new(".").join(checkpoint.folder());
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| is_companion(path) && path.is_file())
        .collect();
    for module in modules(&folder) {
        let module = folder.join(module);
        if module.is_dir() {
            files.extend(files_below(&module)?);
        }
    }
    let name = |path: &Path| {
        let parts = path.strip_prefix(&folder).ok()?.iter();
        let parts: Option<Vec<&str>> = parts.map(|part| part.to_str()).collect();
        Some(parts?.join("/"))
    };
    let mut names: Vec<String> = files.iter().filter_map(|path| name(path)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The folders of modules within the model's folder; a list that cannot be read has none.
fn modules(folder: &Path) -> Vec<String> {
    let mut text = String::new();
    let file = File::open(folder.join(MODULES));
    let read = file.and_then(|file| file.take(MODULES_BYTES).read_to_string(&mut text));
    let modules: Vec<Module> = match read {
        Ok(_) => serde_json::from_str(&text).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    modules
        .into_iter()
        .map(|module| module.path)
        .filter(|path| is_below(path))
        .collect()
}

/// Whether a path leads to a folder below the one that it is relative to.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
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

    #[test]
    fn modules_lie_below_the_folder() {
        for path in ["1_Pooling", "a/b"] {
            assert!(is_below(path), "{path}");
        }
        for path in ["", ".", "..", "/etc", "a/../..", "1_Pooling/.."] {
            assert!(!is_below(path), "{path}");
        }
    }
}
