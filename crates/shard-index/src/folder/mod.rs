use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::choice::{Form, PassedOver, Reason};
use crate::file_name::{self, Family, FileName, Shape, Stem, Weights};
use crate::options::{IndexUse, Sniffed};
use crate::{Error, ResolveOptions};

/// How many folders within a folder are looked into, and how many files of each.
const LOOKED_INTO: usize = 64;
/// How many files of unknown names are opened to tell what they are.
const SNIFFED: usize = 1000;

/// What is taken, and what else is there.
pub(crate) struct Selection {
    /// The chosen file, or all parts in their order.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) form: Form,
    pub(crate) others: Others,
}

/// What a folder offers beside the chosen.
#[derive(Default)]
pub(crate) struct Others {
    candidates: Vec<(Candidate, Reason)>,
    unsupported: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

/// Chooses among the files of a folder.
pub(crate) fn choose(folder: &Path, options: &ResolveOptions) -> Result<Selection, Error> {
    let mut found = Found::list(folder, options)?;
    let ignored = match options.index {
        IndexUse::Ignore => found.take_indexes(),
        _ => Vec::new(),
    };
    if found.candidates.is_empty() {
        return Err(nothing(folder, found));
    }
    let variant = variant(folder, &found.candidates, options.variant.as_deref())?;
    let is_of_variant = |candidate: &Candidate| candidate.name.variant == variant;
    // Parts beside an index of their name are its shards, not a choice of their own.
    let indexed = found.indexed();
    let is_choice = |candidate: &Candidate| {
        is_of_variant(candidate) && !(candidate.is_series() && indexed.contains(&candidate.key()))
    };
    let (mut pool, others): (Vec<_>, Vec<_>) = found.candidates.into_iter().partition(is_choice);
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

    let (key, is_index) = (chosen.key(), chosen.form() == Form::Index);
    let reason = |candidate: &Candidate| match () {
        () if is_index && candidate.is_series() && candidate.key() == key => Reason::Unlisted,
        () if is_of_variant(candidate) => Reason::Precedence,
        () => Reason::Variant(candidate.name.variant.clone().unwrap_or_default()),
    };
    let others = pool.into_iter().chain(others);
    let others = others.map(|other| {
        let reason = reason(&other);
        (other, reason)
    });
    let ignored = ignored
        .into_iter()
        .map(|index| (index, Reason::IndexIgnored));
    Ok(Selection {
        form: chosen.form(),
        others: Others {
            candidates: others.chain(ignored).collect(),
            unsupported: found.unsupported,
            folders: with_weights(found.folders),
        },
        files: chosen.files.into_values().collect(),
    })
}

impl Selection {
    /// An index that was named; all else in `folder` is passed over.
    pub(crate) fn index(path: &Path, folder: &Path, options: &ResolveOptions) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let key = match file_name::read(&name, None) {
            FileName::Weights(name) => Some(key(&name)),
            _ => None,
        };
        let reason = |candidate: &Candidate| match Some(candidate.key()) == key {
            true if candidate.is_series() => Reason::Unlisted,
            _ => Reason::Precedence,
        };
        // The index is there to be read, whether or not its folder can be listed.
        let found = Found::list(folder, options).unwrap_or_default();
        let candidates = found.candidates.into_iter().map(|other| {
            let reason = reason(&other);
            (other, reason)
        });
        Self {
            files: vec![path.to_owned()],
            form: Form::Index,
            others: Others {
                candidates: candidates.collect(),
                unsupported: found.unsupported,
                folders: with_weights(found.folders),
            },
        }
    }

    /// Files that were named. Passed over are those whose names differ in a number only: parts of
    /// the same checkpoint, for all that anybody knows.
    pub(crate) fn named(files: Vec<PathBuf>, form: Form) -> Self {
        let pattern = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            file_name::without_numbers(&name.to_string_lossy())
        };
        let alike = files.first().map_or_else(Vec::new, |first| {
            let wanted = pattern(first);
            let folder = match first.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            // Most names have no number, and their folder need not be listed.
            let entries = wanted.contains('#').then(|| fs::read_dir(folder));
            let entries = entries.into_iter().flatten().flatten().flatten();
            let mut alike: Vec<_> = entries
                .map(|entry| entry.path())
                .filter(|path| pattern(path) == wanted && path.is_file())
                .filter(|path| {
                    !files
                        .iter()
                        .any(|file| file.file_name() == path.file_name())
                })
                .collect();
            alike.sort();
            alike
        });
        let mut candidates = Vec::new();
        if !alike.is_empty() {
            let name = file_name::sniffed("", Family::Torch);
            let files = (0..).zip(alike).collect();
            let twins = Vec::new();
            candidates.push((Candidate { name, files, twins }, Reason::OtherNumber));
        }
        Self {
            files,
            form,
            others: Others {
                candidates,
                ..Others::default()
            },
        }
    }
}

impl Others {
    /// All that is not used, named once: a series by its first file.
    pub(crate) fn passed_over(self, used: &HashSet<&Path>) -> Vec<PassedOver> {
        let mut passed_over = Vec::new();
        for (candidate, reason) in self.candidates {
            let reason = match candidate.name.training_state {
                true => Reason::TrainingState,
                false => reason,
            };
            let files = candidate.files.into_values().chain(candidate.twins);
            let mut files = files.filter(|path| !used.contains(path.as_path()));
            if let Some(path) = files.next() {
                let files = 1 + files.count();
                passed_over.push(PassedOver {
                    path,
                    files,
                    reason,
                });
            }
        }
        let alone = |path, reason| PassedOver {
            path,
            files: 1,
            reason,
        };
        let unsupported = self.unsupported.into_iter();
        let unsupported = unsupported.filter(|path| !used.contains(path.as_path()));
        passed_over.extend(unsupported.map(|path| alone(path, Reason::Unsupported)));
        let is_used = |folder: &PathBuf| used.iter().any(|path| path.starts_with(folder));
        let folders = self.folders.into_iter().filter(|folder| !is_used(folder));
        passed_over.extend(folders.map(|path| alone(path, Reason::Subfolder)));
        passed_over
    }
}

/// One choice: an index, a file, or a series of numbered parts.
#[derive(Debug)]
struct Candidate {
    name: Weights,
    /// By number; a file alone has number 1.
    files: BTreeMap<u32, PathBuf>,
    /// Parts whose number another file has too: `-01-of-12` beside `-1-of-12`.
    twins: Vec<PathBuf>,
}

/// What an index and its shards have in common: extension, base and variant.
type Key = (String, String, Option<String>);

fn key(name: &Weights) -> Key {
    let Weights {
        extension,
        base,
        variant,
        ..
    } = name.clone();
    (extension, base, variant)
}

/// All that matters in a folder.
#[derive(Default)]
struct Found {
    candidates: Vec<Candidate>,
    unsupported: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    is_empty: bool,
}

impl Found {
    fn list(folder: &Path, options: &ResolveOptions) -> Result<Self, Error> {
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
            // A link to nothing stays a candidate: to pass it over in silence would load
            // something else than was meant.
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
                        Sniffed::Safetensors => file_name::sniffed(&file, Family::Safetensors),
                        Sniffed::Torch => file_name::sniffed(&file, Family::Torch),
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

    fn take_indexes(&mut self) -> Vec<Candidate> {
        let is_index = |candidate: &mut Candidate| candidate.name.shape == Shape::Index;
        self.candidates.extract_if(.., is_index).collect()
    }

    /// What the indexes have in common with their shards.
    fn indexed(&self) -> BTreeSet<Key> {
        let indexes = self.candidates.iter();
        let indexes = indexes.filter(|candidate| candidate.name.shape == Shape::Index);
        indexes.map(Candidate::key).collect()
    }
}

impl Candidate {
    fn key(&self) -> Key {
        key(&self.name)
    }

    /// Its place in the order of preference; equal ones cannot be told apart.
    fn rank(&self) -> (bool, bool, Family, Stem, u8) {
        let Weights { family, stem, .. } = self.name;
        let shape = match (stem, self.name.shape) {
            (_, Shape::Index) => 0,
            (Stem::Other, _) => 1,
            (_, Shape::Single) => 1,
            (_, Shape::Part { .. }) => 2,
        };
        let Weights {
            training_state,
            sniffed,
            ..
        } = self.name;
        (training_state, sniffed, family, stem, shape)
    }

    fn is_series(&self) -> bool {
        matches!(self.name.shape, Shape::Part { .. })
    }

    fn form(&self) -> Form {
        match self.name.shape {
            Shape::Index => Form::Index,
            Shape::Single => Form::Single,
            Shape::Part { .. } => Form::Parts,
        }
    }

    /// A series is complete by its lowest number, which is 0 or 1, and its count; each number is
    /// there once.
    fn check_complete(&self, folder: &Path) -> Result<(), Error> {
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

    /// The name a part would have, in the manner of those that are there.
    fn part(&self, number: u32) -> String {
        let names = self.files.values().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let padded = names.iter().find_map(|name| file_name::padding(name));
        names.first().map_or_else(String::new, |name| {
            file_name::with_number(name, number, padded.unwrap_or(1))
        })
    }

    fn into_first(self) -> PathBuf {
        self.files.into_values().next().unwrap_or_default()
    }
}

/// The variant to choose from: the one asked for, or none, or the only one where nothing else is
/// there.
fn variant(
    folder: &Path,
    candidates: &[Candidate],
    wanted: Option<&str>,
) -> Result<Option<String>, Error> {
    let variants = candidates.iter().filter_map(|c| c.name.variant.as_deref());
    let variants: BTreeSet<&str> = variants.collect();
    if let Some(wanted) = wanted {
        if variants.contains(wanted) {
            return Ok(Some(wanted.to_owned()));
        }
        return Err(Error::NoVariant {
            folder: folder.to_owned(),
            variant: wanted.to_owned(),
            available: variants.into_iter().map(str::to_owned).collect(),
        });
    }
    let is_plain = |name: &Weights| !name.training_state && !name.sniffed && name.variant.is_none();
    if candidates.iter().any(|candidate| is_plain(&candidate.name)) {
        return Ok(None);
    }
    if variants.len() > 1 {
        let of_variants = candidates.iter().filter(|c| c.name.variant.is_some());
        let firsts = of_variants.filter_map(|candidate| candidate.files.values().next());
        let mut firsts: Vec<_> = firsts.cloned().collect();
        firsts.sort();
        return Err(Error::Ambiguous {
            folder: folder.to_owned(),
            candidates: firsts,
        });
    }
    Ok(variants.first().map(|&only| only.to_owned()))
}

/// Those of the folders that hold weights, by the names of their files.
fn with_weights(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let holds_weights = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.take(LOOKED_INTO).any(|entry| {
            let name = file_name::read(&entry.file_name().to_string_lossy(), None);
            matches!(name, FileName::Weights(_))
        })
    };
    folders.truncate(LOOKED_INTO);
    folders.retain(holds_weights);
    folders
}

/// Says what is there instead of a checkpoint.
fn nothing(folder: &Path, found: Found) -> Error {
    let folder = folder.to_owned();
    match found.is_empty {
        true => Error::EmptyFolder { folder },
        false => Error::NoCheckpoint {
            folder,
            unsupported: found.unsupported,
            folders: with_weights(found.folders),
        },
    }
}
