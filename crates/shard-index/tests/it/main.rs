//! Folders, hub caches and catalogs as they are met in the world, good and broken.

mod errors;
mod file;
mod folder;
mod hub;
mod index;
mod merge;
mod python;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tensorlift_shard_index::{Environment, Error, ResolveOptions, Resolved, resolve};

/// A folder with these files in it, all empty; an index lists the names behind
/// a `>`, as in `model.safetensors.index.json>a.safetensors,b.safetensors`.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), files);
    folder
}

fn fill(folder: &Path, files: &[&str]) {
    for file in files {
        let (name, bytes) = match file.split_once('>') {
            Some((name, shards)) => (name, index(&shards.split(',').collect::<Vec<_>>())),
            None => (*file, String::new()),
        };
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// An index with one tensor for each shard, named by position.
fn index(shards: &[&str]) -> String {
    let entries = shards.iter().enumerate();
    let entries: Vec<_> = entries
        .map(|(n, shard)| format!("\"{n}\": {shard:?}"))
        .collect();
    format!("{{\"weight_map\": {{{}}}}}", entries.join(", "))
}

/// Options that see nothing of the machine the test runs on.
fn options() -> ResolveOptions {
    ResolveOptions::new().environment(Environment::fixed([("HOME", "/nowhere")]))
}

fn open(target: impl AsRef<Path>) -> Result<Resolved, Error> {
    resolve(target, &options())
}

/// Paths relative to a folder.
fn relative(folder: &Path, paths: &[PathBuf]) -> Vec<String> {
    let relative = paths.iter().map(|path| path.strip_prefix(folder).unwrap());
    relative
        .map(|path| path.to_str().unwrap().to_owned())
        .collect()
}
