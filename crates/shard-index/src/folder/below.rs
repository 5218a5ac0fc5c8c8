//! What the folders within a folder hold.
//!
//! Rule: a folder with weights is named however deep it is, as far as a bounded search finds it.

use std::fs;
use std::path::{Path, PathBuf};

use super::found::SNIFFED;
use crate::ResolveOptions;
use crate::file_name::{self, FileName};
use crate::options::{Sniff, Sniffed};

/// The most files and folders that are looked at, all together.
const LOOKED_AT: usize = 20_000;
/// How deep the folders are nested that are searched.
const DEPTH: usize = 4;

/// The checkpoints below a folder.
#[derive(Default)]
pub(super) struct Below {
    /// Folders that hold some; what is in one of these is not searched.
    pub(super) folders: Vec<PathBuf>,
    /// One file of each folder that holds only formats that are not supported.
    pub(super) unsupported: Vec<PathBuf>,
}

impl Below {
    /// Searches these folders, the nearest first.
    pub(super) fn search(folders: Vec<PathBuf>, options: &ResolveOptions) -> Self {
        let mut below = Self::default();
        let mut left = Left {
            entries: LOOKED_AT,
            sniffs: SNIFFED,
            sniff: options.sniff,
        };
        let mut level = folders;
        for _ in 0..DEPTH {
            let mut deeper = Vec::new();
            for folder in level {
                let held = left.look_into(&folder);
                if held.weights {
                    below.folders.push(folder);
                    continue;
                }
                below.unsupported.extend(held.unsupported);
                deeper.extend(held.folders);
            }
            level = deeper;
        }
        below
    }
}

/// What a search may still do.
struct Left {
    entries: usize,
    sniffs: usize,
    sniff: Option<Sniff>,
}

/// The contents of one folder.
#[derive(Default)]
struct Held {
    weights: bool,
    unsupported: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Left {
    fn look_into(&mut self, folder: &Path) -> Held {
        let mut held = Held::default();
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let Some(entries) = self.entries.checked_sub(1) else {
                break;
            };
            self.entries = entries;
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    held.folders.push(path);
                    continue;
                }
                Ok(metadata) if metadata.is_file() => {}
                // Opening a pipe would wait; a link to nothing holds nothing.
                _ => continue,
            }
            let sniffed = match file_name::read(&name, None) {
                FileName::Weights(_) => Sniffed::Torch,
                FileName::Unsupported => Sniffed::Unsupported,
                FileName::Unknown => self.sniff(&path),
                FileName::Other => Sniffed::Other,
            };
            match sniffed {
                Sniffed::Safetensors | Sniffed::Torch => {
                    held.weights = true;
                    break;
                }
                Sniffed::Unsupported => {
                    let first = held.unsupported.get_or_insert_with(|| path.clone());
                    if path < *first {
                        *first = path;
                    }
                }
                Sniffed::Other => {}
            }
        }
        held.folders.sort();
        held
    }

    fn sniff(&mut self, path: &Path) -> Sniffed {
        let Some((sniff, sniffs)) = self.sniff.zip(self.sniffs.checked_sub(1)) else {
            return Sniffed::Other;
        };
        self.sniffs = sniffs;
        sniff(path)
    }
}
