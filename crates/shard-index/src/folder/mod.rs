//! Choosing among the files of a folder.

mod below;
mod candidate;
mod found;
mod others;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::choice::{Form, Reason};
use crate::file_name::{self, FileName, Weights};
use crate::options::IndexUse;
use crate::{Error, ResolveOptions, WeightFormat};
use below::Below;
use candidate::{Candidate, key};
use found::Found;
use others::Others;

/// The files that were chosen, and the alternatives.
pub(crate) struct ChosenFiles {
    /// The chosen file, or all parts in their order.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) form: Form,
    pub(crate) others: Others,
}

/// Chooses among the files of a folder.
pub(crate) fn choose(folder: &Path, options: &ResolveOptions) -> Result<ChosenFiles, Error> {
    let mut found = Found::list(folder, options)?;
    let ignored = match options.index {
        IndexUse::Ignore => found.take_indexes(),
        _ => Vec::new(),
    };
    if found.candidates.is_empty() {
        return Err(nothing(folder, found, options));
    }
    let variant = variant(folder, &found.candidates, options.variant.as_deref())?;
    let is_of_variant = |candidate: &Candidate| candidate.name.variant == variant;
    // Parts beside an index of the same name are its shards, not a separate choice.
    let indexed = found.indexed();
    let is_choice = |candidate: &Candidate| {
        is_of_variant(candidate) && !(candidate.is_series() && indexed.contains(&candidate.key()))
    };
    let (mut pool, others): (Vec<_>, Vec<_>) = found.candidates.into_iter().partition(is_choice);
    let rank = |candidate: &Candidate| candidate.rank(options.preferred);
    pool.sort_by(|a, b| (rank(a), &a.files).cmp(&(rank(b), &b.files)));
    let best = rank(&pool[0]);
    let ties = pool.iter().take_while(|other| rank(other) == best).count();
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
    Ok(ChosenFiles {
        form: chosen.form(),
        others: Others {
            candidates: others.chain(ignored).collect(),
            unsupported: found.unsupported,
            below: Below::search(found.folders, options),
        },
        files: chosen.files.into_values().collect(),
    })
}

impl ChosenFiles {
    /// A named index; everything else in `folder` is passed over.
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
        // The index can be read even if its folder cannot be listed.
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
                below: Below::search(found.folders, options),
            },
        }
    }

    /// Files that were named. Files whose names differ only in a number are passed over: they may
    /// be parts of the same checkpoint.
    pub(crate) fn named(files: Vec<PathBuf>, form: Form) -> Self {
        let pattern = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            let name = file_name::without_numbers(&name.to_string_lossy());
            let folder = path.parent().unwrap_or_else(|| Path::new(""));
            (folder.to_owned(), name)
        };
        // Most names have no number; then the folder is not listed.
        let numbered = files.iter().map(|file| pattern(file));
        let numbered: BTreeSet<_> = numbered.filter(|(_, name)| name.contains('#')).collect();
        let mut candidates = Vec::new();
        for wanted in numbered {
            let folder = match &wanted.0 {
                folder if folder == Path::new("") => Path::new("."),
                folder => folder,
            };
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut alike: Vec<_> = entries
                .map(|entry| wanted.0.join(entry.file_name()))
                .filter(|path| pattern(path) == wanted && path.is_file())
                .filter(|path| !files.contains(path))
                .collect();
            alike.sort();
            if !alike.is_empty() {
                let name = file_name::sniffed("", WeightFormat::Torch);
                let files = (0..).zip(alike).collect();
                let twins = Vec::new();
                candidates.push((Candidate { name, files, twins }, Reason::OtherNumber));
            }
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

/// The variant to choose: the requested one, or none, or the only one that exists.
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

/// The error for a folder without a checkpoint.
fn nothing(folder: &Path, found: Found, options: &ResolveOptions) -> Error {
    let folder = folder.to_owned();
    if found.is_empty {
        return Error::EmptyFolder { folder };
    }
    let Below {
        folders,
        unsupported,
    } = Below::search(found.folders, options);
    Error::NoCheckpoint {
        folder,
        unsupported: found.unsupported.into_iter().chain(unsupported).collect(),
        folders,
    }
}
