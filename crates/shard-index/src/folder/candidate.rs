//! One choice among the files of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::choice::Form;
use crate::file_name::{self, Shape, Stem, Weights};
use crate::{Error, WeightFormat};

/// One choice: an index, a file, or a series of numbered parts.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: Weights,
    /// By number; a file alone has number 1.
    pub(super) files: BTreeMap<u32, PathBuf>,
    /// Parts with the number of another part: `-01-of-12` beside `-1-of-12`.
    pub(super) twins: Vec<PathBuf>,
}

/// What an index and its shards have in common: extension, base and variant.
pub(super) type Key = (String, String, Option<String>);

pub(super) fn key(name: &Weights) -> Key {
    let Weights {
        extension,
        base,
        variant,
        ..
    } = name.clone();
    (extension, base, variant)
}

impl Candidate {
    pub(super) fn key(&self) -> Key {
        key(&self.name)
    }

    /// Its position in the order of preference; equal ranks are ambiguous.
    pub(super) fn rank(&self, preferred: WeightFormat) -> (bool, bool, bool, Stem, u8) {
        let Weights {
            format,
            stem,
            shape,
            training_state,
            sniffed,
            ..
        } = self.name;
        let shape = match (stem, shape) {
            (_, Shape::Index) => 0,
            (Stem::Other, _) | (_, Shape::Single) => 1,
            (_, Shape::Part { .. }) => 2,
        };
        (training_state, sniffed, format != preferred, stem, shape)
    }

    pub(super) fn is_series(&self) -> bool {
        matches!(self.name.shape, Shape::Part { .. })
    }

    pub(super) fn form(&self) -> Form {
        match self.name.shape {
            Shape::Index => Form::Index,
            Shape::Single => Form::Single,
            Shape::Part { .. } => Form::Parts,
        }
    }

    /// A series is complete by its lowest number, which is 0 or 1, and its count; each number is
    /// there once.
    pub(super) fn check_complete(&self, folder: &Path) -> Result<(), Error> {
        let Shape::Part { of, .. } = self.name.shape else {
            return Ok(());
        };
        let first = self.files.keys().next().map_or(1, |&first| first.min(1));
        let numbers = first..first + of.get();
        let surplus = self
            .files
            .iter()
            .find(|(number, _)| !numbers.contains(number));
        let doubtful = self.twins.iter().chain(surplus.map(|(_, path)| path));
        let doubtful: Vec<_> = doubtful.cloned().collect();
        if !doubtful.is_empty() {
            let first = self.files.values().next().cloned();
            return Err(Error::Ambiguous {
                folder: folder.to_owned(),
                candidates: first.into_iter().chain(doubtful).collect(),
            });
        }
        let missing: Vec<_> = numbers
            .filter(|number| !self.files.contains_key(number))
            .map(|number| folder.join(self.part(number)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingParts {
            folder: folder.to_owned(),
            present: self.files.values().cloned().collect(),
            missing,
        })
    }

    /// The name of a missing part, in the style of the parts that exist.
    fn part(&self, number: u32) -> String {
        let names = self.files.values().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let padded = names.iter().find_map(|name| file_name::padding(name));
        names.first().map_or_else(String::new, |name| {
            file_name::with_number(name, number, padded.unwrap_or(1))
        })
    }

    pub(super) fn into_first(self) -> PathBuf {
        self.files.into_values().next().unwrap_or_default()
    }
}
