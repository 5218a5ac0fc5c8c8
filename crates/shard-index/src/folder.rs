use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::choice::{Form, PassedOver, Reason};
use crate::file_name::{self, Family, FileName, Shape, Stem, Weights};

/// How many folders within a folder are looked into for a hint.
const HINTED: usize = 64;

/// What a folder offers: the first in the order of preference.
pub(crate) struct Selection {
    /// The chosen file, or all parts in their order.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) form: Form,
    pub(crate) passed_over: Vec<PassedOver>,
}

/// Chooses among the files of a folder; `wanted` is the variant asked for.
pub(crate) fn choose(folder: &Path, wanted: Option<&str>) -> Result<Selection, Error> {
    let found = Found::list(folder, wanted)?;
    if found.candidates.is_empty() {
        return Err(nothing(folder, found));
    }
    let Found {
        candidates,
        unsupported,
        ..
    } = found;
    let (mut pool, others) = split_by_variant(folder, candidates, wanted)?;
    pool.sort_by(|a, b| (a.rank(), &a.files).cmp(&(b.rank(), &b.files)));
    let best = pool[0].rank();
    let ties = pool.iter().take_while(|other| other.rank() == best).count();
    if ties > 1 {
        let tied = pool.into_iter().take(ties);
        return Err(Error::Ambiguous {
            folder: folder.to_owned(),
            candidates: tied.map(Candidate::into_first).collect(),
        });
    }
    let chosen = pool.remove(0);
    chosen.check_complete(folder)?;

    let later = pool
        .into_iter()
        .map(|other| other.pass_over(Reason::Precedence));
    let variants = others.into_iter().map(|other| {
        let variant = other.name.variant.clone().unwrap_or_default();
        other.pass_over(Reason::Variant(variant))
    });
    let unsupported = unsupported.into_iter().map(|path| PassedOver {
        path,
        files: 1,
        reason: Reason::Unsupported,
    });
    Ok(Selection {
        passed_over: later.chain(variants).chain(unsupported).collect(),
        form: chosen.form(),
        files: chosen.files.into_values().collect(),
    })
}

impl Selection {
    /// A file with no other to choose from.
    pub(crate) fn only(path: &Path, form: Form) -> Self {
        Self {
            files: vec![path.to_owned()],
            form,
            passed_over: Vec::new(),
        }
    }
}

/// One choice: an index, a file, or a series of numbered parts.
#[derive(Debug)]
struct Candidate {
    name: Weights,
    /// By number; a file alone has number 1.
    files: BTreeMap<u32, PathBuf>,
}

/// All that matters in a folder.
struct Found {
    candidates: Vec<Candidate>,
    unsupported: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    is_empty: bool,
}

impl Found {
    fn list(folder: &Path, wanted: Option<&str>) -> Result<Self, Error> {
        let io = |error: io::Error| Error::Io {
            path: folder.to_owned(),
            error,
        };
        let mut found = Found {
            candidates: Vec::new(),
            unsupported: Vec::new(),
            folders: Vec::new(),
            is_empty: true,
        };
        let mut series: BTreeMap<_, Candidate> = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            found.is_empty = false;
            let (file, path) = (entry.file_name(), entry.path());
            let name = file_name::read(&file.to_string_lossy(), wanted);
            // A link to nothing stays a candidate: to pass it over in silence would load
            // something else than was meant.
            let metadata = fs::metadata(&path).ok();
            if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
                found.folders.push(path);
                continue;
            }
            if metadata.is_some_and(|metadata| !metadata.is_file()) {
                continue;
            }
            match name {
                FileName::Other => {}
                FileName::Unsupported => found.unsupported.push(path),
                FileName::Weights(name) => match name.shape {
                    Shape::Part { number, of, digits } => {
                        let key = (name.family, name.extension.clone(), name.base.clone());
                        let key = (key, name.variant.clone(), of, digits);
                        let files = BTreeMap::new();
                        let parts = series.entry(key).or_insert(Candidate { name, files });
                        // `-01-of-12` and `-1-of-12`.
                        if let Some(twin) = parts.files.insert(number, path.clone()) {
                            return Err(Error::Ambiguous {
                                folder: folder.to_owned(),
                                candidates: vec![twin, path],
                            });
                        }
                    }
                    Shape::Index | Shape::Single => found.candidates.push(Candidate {
                        name,
                        files: BTreeMap::from([(1, path)]),
                    }),
                },
            }
        }
        // Parts beside an index of their name are its shards, not a choice of their own.
        let key = |name: &Weights| {
            (
                name.extension.clone(),
                name.base.clone(),
                name.variant.clone(),
            )
        };
        let indexes = found.candidates.iter().map(|candidate| &candidate.name);
        let indexed: BTreeSet<_> = indexes
            .filter(|name| name.shape == Shape::Index)
            .map(key)
            .collect();
        let alone = series.into_values();
        found
            .candidates
            .extend(alone.filter(|parts| !indexed.contains(&key(&parts.name))));
        found.unsupported.sort();
        found.folders.sort();
        Ok(found)
    }
}

impl Candidate {
    /// Its place in the order of preference; equal ones cannot be told apart.
    fn rank(&self) -> (bool, Family, Stem, u8) {
        let Weights { family, stem, .. } = self.name;
        let shape = match (stem, self.name.shape) {
            (_, Shape::Index) => 0,
            (Stem::Other, _) => 1,
            (_, Shape::Single) => 1,
            (_, Shape::Part { .. }) => 2,
        };
        (self.name.training_state, family, stem, shape)
    }

    fn form(&self) -> Form {
        match self.name.shape {
            Shape::Index => Form::Index,
            Shape::Single => Form::Single,
            Shape::Part { .. } => Form::Parts,
        }
    }

    fn check_complete(&self, folder: &Path) -> Result<(), Error> {
        let Shape::Part { of, digits, .. } = self.name.shape else {
            return Ok(());
        };
        let missing: Vec<_> = (1..=of.get())
            .filter(|number| !self.files.contains_key(number))
            .map(|number| self.part(number, digits))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingParts {
            folder: folder.to_owned(),
            present: self.files.values().cloned().collect(),
            missing: missing.into_iter().map(|name| folder.join(name)).collect(),
        })
    }

    /// The name a part would have, in the manner of those that are there.
    fn part(&self, number: u32, digits: usize) -> String {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let label = |number: u32, width: usize| format!("-{number:0width$}-of-");
        let is_padded =
            |(&number, path): (&u32, &PathBuf)| name(path).contains(&label(number, digits));
        let width = if self.files.iter().all(is_padded) {
            digits
        } else {
            1
        };
        let Some((&known, path)) = self.files.iter().next() else {
            return String::new();
        };
        let mut name = name(path);
        let known = label(known, width);
        if let Some(at) = name.rfind(&known) {
            name.replace_range(at..at + known.len(), &label(number, width));
        }
        name
    }

    fn into_first(self) -> PathBuf {
        self.files.into_values().next().unwrap_or_default()
    }

    fn pass_over(self, reason: Reason) -> PassedOver {
        let reason = match self.name.training_state {
            true => Reason::TrainingState,
            false => reason,
        };
        PassedOver {
            files: self.files.len(),
            path: self.into_first(),
            reason,
        }
    }
}

/// Those of the variant to choose from, and the rest.
fn split_by_variant(
    folder: &Path,
    candidates: Vec<Candidate>,
    wanted: Option<&str>,
) -> Result<(Vec<Candidate>, Vec<Candidate>), Error> {
    let available = || {
        let variants = candidates.iter().filter_map(|c| c.name.variant.clone());
        variants.collect::<BTreeSet<_>>()
    };
    let variant = match wanted {
        Some(wanted) => Some(wanted.to_owned()),
        None => {
            let plain = |c: &Candidate| c.name.variant.is_none() && !c.name.training_state;
            let variants = available();
            match variants.first() {
                Some(only) if variants.len() == 1 && !candidates.iter().any(plain) => {
                    Some(only.clone())
                }
                Some(_) if !candidates.iter().any(plain) => {
                    return Err(Error::Ambiguous {
                        folder: folder.to_owned(),
                        candidates: candidates.into_iter().map(Candidate::into_first).collect(),
                    });
                }
                _ => None,
            }
        }
    };
    if let Some(variant) = &variant
        && !available().contains(variant)
    {
        return Err(Error::NoVariant {
            folder: folder.to_owned(),
            variant: variant.clone(),
            available: available().into_iter().collect(),
        });
    }
    Ok(candidates
        .into_iter()
        .partition(|candidate| candidate.name.variant == variant))
}

/// Says what is there instead of a checkpoint.
fn nothing(folder: &Path, found: Found) -> Error {
    let folder = folder.to_owned();
    if found.is_empty {
        return Error::EmptyFolder { folder };
    }
    let holds_weights = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.take(HINTED).any(|entry| {
            let name = entry.file_name();
            matches!(
                file_name::read(&name.to_string_lossy(), None),
                FileName::Weights(_)
            )
        })
    };
    let folders = found.folders.into_iter().take(HINTED);
    Error::NoCheckpoint {
        folder,
        unsupported: found.unsupported,
        folders: folders.filter(holds_weights).collect(),
    }
}
