//! What a folder holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::candidate::{Candidate, Key, key};
use crate::file_name::{self, FileName, Shape};
use crate::options::Sniffed;
use crate::{Error, ResolveOptions, WeightFormat};

/// The most files of unknown names that are opened to recognise their format.
pub(super) const SNIFFED: usize = 1000;

/// The relevant contents of a folder.
#[derive(Default)]
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    pub(super) unsupported: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) is_empty: bool,
}

impl Found {
    pub(super) fn list(folder: &Path, options: &ResolveOptions) -> Result<Self, Error> {
        let io = |error: io::Error| Error::Io {
            path: folder.to_owned(),
            error,
        };
        let mut found = Found {
            is_empty: true,
            ..Self::default()
        };
        let mut series: BTreeMap<_, Candidate> = BTreeMap::new();
        let mut sniffs = 0..SNIFFED;
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            found.is_empty = false;
            let (file, path) = (entry.file_name(), entry.path());
            let file = file.to_string_lossy();
            // A dangling link stays a candidate: skipping it silently could load the wrong files.
            let metadata = fs::metadata(&path).ok();
            if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
                if !file.starts_with('.') {
                    found.folders.push(path);
                }
                continue;
            }
            if metadata.is_some_and(|metadata| !metadata.is_file()) {
                continue;
            }
            let name = match file_name::read(&file, options.variant.as_deref()) {
                FileName::Weights(name) => name,
                FileName::Unsupported => {
                    found.unsupported.push(path);
                    continue;
                }
                FileName::Unknown => match options.sniff.filter(|_| sniffs.next().is_some()) {
                    Some(sniff) => match sniff(&path) {
                        Sniffed::Safetensors => {
                            file_name::sniffed(&file, WeightFormat::Safetensors)
                        }
                        Sniffed::Torch => file_name::sniffed(&file, WeightFormat::Torch),
                        Sniffed::Unsupported => {
                            found.unsupported.push(path);
                            continue;
                        }
                        Sniffed::Other => continue,
                    },
                    None => continue,
                },
                FileName::Other => continue,
            };
            match name.shape {
                Shape::Part { number, of } => {
                    let parts = series.entry((key(&name), of)).or_insert(Candidate {
                        name,
                        files: BTreeMap::new(),
                        twins: Vec::new(),
                    });
                    parts.twins.extend(parts.files.insert(number, path));
                }
                Shape::Index | Shape::Single => found.candidates.push(Candidate {
                    name,
                    files: BTreeMap::from([(1, path)]),
                    twins: Vec::new(),
                }),
            }
        }
        found.candidates.extend(series.into_values());
        found.unsupported.sort();
        found.folders.sort();
        Ok(found)
    }

    pub(super) fn take_indexes(&mut self) -> Vec<Candidate> {
        let is_index = |candidate: &mut Candidate| candidate.name.shape == Shape::Index;
        self.candidates.extract_if(.., is_index).collect()
    }

    /// What the indexes have in common with their shards.
    pub(super) fn indexed(&self) -> BTreeSet<Key> {
        let indexes = self.candidates.iter();
        let indexes = indexes.filter(|candidate| candidate.name.shape == Shape::Index);
        indexes.map(Candidate::key).collect()
    }
}
