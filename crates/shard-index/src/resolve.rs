use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tensorlift_tensor_meta::Catalog;

use crate::choice::{Choice, Companions, Form, Reason, Route};
use crate::error::MissingShard;
use crate::folder::{self, ChosenFiles};
use crate::hub::{self, HubEntry, HubMiss, HubName, HubNameError, hub_cache};
use crate::index_file::{begins_like_json, read as read_index};
use crate::near::{Near, near};
use crate::options::IndexUse;
use crate::{Error, Index, Merged, ResolveOptions, file_name, merge};

/// The files of one checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The shards, each once: in the order in which the index first names them, or by number.
    pub shards: Vec<PathBuf>,
    /// What the index file says, where there is one.
    pub index: Option<Index>,
    /// What was chosen, and what was passed over.
    pub choice: Choice,
    /// The folder of the shards.
    pub folder: PathBuf,
    /// Configuration and tokenizer beside it.
    pub companions: Companions,
}

/// Finds the files of the checkpoint that `target` names: a file, an index file, a folder, or a
/// model in the Hugging Face cache.
///
/// A path that exists is always taken as a path.
/// See the [crate's page](crate) for the order in which the files of a folder are preferred.
/// Shards are not opened, but each must be there.
///
/// # Errors
/// If there is no checkpoint, if several are equally preferred, or if parts are missing: then all
/// missing parts are named, and nothing is loaded in their place.
pub fn resolve(target: impl AsRef<Path>, options: &ResolveOptions) -> Result<Resolved, Error> {
    let target = target.as_ref();
    if target.as_os_str().is_empty() {
        return Err(Error::EmptyTarget);
    }
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => in_folder(target, options),
        Ok(metadata) if metadata.is_file() => at_file(target, options),
        Ok(_) => Err(Error::NotAFile {
            path: target.to_owned(),
        }),
        Err(error) if is_absence(&error) => at_no_path(target, options),
        Err(error) => Err(Error::Io {
            path: target.to_owned(),
            error,
        }),
    }
}

/// Takes these files as one checkpoint, in the order given.
///
/// No index is read.
///
/// # Errors
/// If no file is given, or one of them does not exist.
pub fn resolve_files(files: &[PathBuf]) -> Result<Resolved, Error> {
    let Some(first) = files.first() else {
        return Err(Error::EmptyTarget);
    };
    for file in files {
        match fs::metadata(file) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(Error::NotAFile { path: file.clone() }),
            Err(error) if is_absence(&error) => return Err(not_found(file, None)),
            Err(error) => {
                let path = file.clone();
                return Err(Error::Io { path, error });
            }
        }
    }
    let selection = ChosenFiles::named(files.to_vec(), Form::Files);
    finish(first, folder_of(first), Route::File, selection, None)
}

impl Resolved {
    /// Merges the catalogs of the shards, one for each and in their order, into one.
    ///
    /// # Errors
    /// As [`merge`](crate::merge()), with the index file named.
    pub fn merge(&self, catalogs: Vec<Catalog>) -> Result<Merged, Error> {
        merge::merge(&self.shards, self.index.as_ref(), catalogs).map_err(|mut error| {
            if let Error::Conflicts(conflicts) = &mut error {
                conflicts.index = self.index.is_some().then(|| self.choice.chosen.clone());
            }
            error
        })
    }
}

fn at_file(path: &Path, options: &ResolveOptions) -> Result<Resolved, Error> {
    if let IndexUse::File(_) = options.index {
        return Err(Error::IndexOfFile {
            path: path.to_owned(),
        });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_json = name.ends_with(".json");
    let folder = folder_of(path);
    if is_json || begins_like_json(path)? {
        match read_index(path, options) {
            Ok(index) => {
                let selection = ChosenFiles::index(path, folder, options);
                return finish(path, folder, Route::File, selection, Some(index));
            }
            Err(error) if is_json || file_name::is_index(&name) => return Err(error),
            // With another name, its format is recognised when it is opened.
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    let selection = ChosenFiles::named(vec![path.to_owned()], Form::Single);
    finish(path, folder, Route::File, selection, None)
}

fn in_folder(folder: &Path, options: &ResolveOptions) -> Result<Resolved, Error> {
    match select(folder, options, Route::Folder) {
        // The folder of a model within the cache.
        Err(error @ Error::NoCheckpoint { .. }) => match hub::repo_folder(folder) {
            Some(name) => match hub::find_in(&name, folder)? {
                Ok(entry) => in_snapshot(entry, &name, options),
                Err(miss) => Err(Error::NotCached(Box::new(miss))),
            },
            None => Err(error),
        },
        selected => selected,
    }
}

fn at_no_path(target: &Path, options: &ResolveOptions) -> Result<Resolved, Error> {
    if let Ok(link) = fs::read_link(target) {
        return Err(Error::DanglingLink {
            path: target.to_owned(),
            to: link,
        });
    }
    let miss = match hub_name(target)? {
        Some(name) => {
            let cache = options.cache.clone();
            let cache = cache.unwrap_or_else(|| hub_cache(&options.environment));
            match hub::find(&name, &cache)? {
                Ok(entry) => return in_snapshot(entry, &name, options),
                Err(miss) => Some(Box::new(miss)),
            }
        }
        None => None,
    };
    Err(not_found(target, miss))
}

/// The error of a path that does not exist, with names that are near.
pub(crate) fn not_found(target: &Path, hub: Option<Box<HubMiss>>) -> Error {
    let Near { folder, paths } = near(target);
    Error::NotFound {
        target: target.to_owned(),
        folder,
        near: paths,
        hub,
    }
}

/// The text as a hub name; an error if it can only be a hub name and is invalid.
fn hub_name(target: &Path) -> Result<Option<HubName>, Error> {
    let Some(text) = target.to_str().filter(|text| hub::looks_like_name(text)) else {
        return Ok(None);
    };
    let refused = |error: HubNameError| Error::HubName { error };
    let has_revision = text.contains('@');
    match text.parse() {
        Ok(name) => Ok(Some(name)),
        Err(fault) if has_revision => Err(refused(fault)),
        Err(_) => Ok(None),
    }
}

fn in_snapshot(
    entry: HubEntry,
    name: &HubName,
    options: &ResolveOptions,
) -> Result<Resolved, Error> {
    let snapshot = entry.snapshot.clone();
    select(&snapshot, options, Route::Hub(entry)).map_err(|error| {
        // If weights exist elsewhere or in another format, nothing is missing.
        let is_incomplete = match &error {
            Error::NoCheckpoint {
                unsupported,
                folders,
                ..
            } => unsupported.is_empty() && folders.is_empty(),
            Error::EmptyFolder { .. }
            | Error::DanglingLink { .. }
            | Error::MissingParts { .. }
            | Error::MissingShards { .. } => true,
            _ => false,
        };
        match is_incomplete {
            true => Error::InSnapshot {
                command: name.fetch_command(),
                error: Box::new(error),
            },
            false => error,
        }
    })
}

fn select(folder: &Path, options: &ResolveOptions, route: Route) -> Result<Resolved, Error> {
    let selection = match &options.index {
        IndexUse::File(file) => {
            let within = folder.join(file);
            let path = if within.exists() { &within } else { file };
            ChosenFiles::index(path, folder, options)
        }
        _ => folder::choose(folder, options)?,
    };
    let chosen = selection.files[0].clone();
    let index = match selection.form {
        Form::Index => Some(read_index(&chosen, options)?),
        _ => None,
    };
    finish(&chosen, folder, route, selection, index)
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Checks that all shards of the selection exist, and lists what was passed over.
fn finish(
    chosen: &Path,
    folder: &Path,
    route: Route,
    selection: ChosenFiles,
    index: Option<Index>,
) -> Result<Resolved, Error> {
    let ChosenFiles {
        files,
        form,
        others,
    } = selection;
    let shards: Vec<_> = match &index {
        Some(index) => {
            let names = index.shards().iter();
            names.map(|name| folder.join(&**name)).collect()
        }
        None => files,
    };
    let used = shards.iter().map(PathBuf::as_path).chain([chosen]);
    let passed_over = others.passed_over(&used.collect::<HashSet<_>>());
    let missing: Vec<_> = shards.iter().filter_map(|shard| absent(shard)).collect();
    if !missing.is_empty() {
        if index.is_none() && form == Form::Single {
            let path = chosen.to_owned();
            let to = fs::read_link(chosen).unwrap_or_default();
            return Err(Error::DanglingLink { path, to });
        }
        let is_whole = |reason: &Reason| matches!(reason, Reason::Precedence | Reason::Unlisted);
        let others = passed_over.into_iter();
        return Err(Error::MissingShards {
            index: index.is_some().then(|| chosen.to_owned()),
            shards: shards.len(),
            missing,
            alternatives: others.filter(|other| is_whole(&other.reason)).collect(),
        });
    }
    let choice = Choice {
        part: match (form, chosen.file_name()) {
            (Form::Single, Some(name)) => file_name::part_of(&name.to_string_lossy()),
            _ => None,
        },
        route,
        chosen: chosen.to_owned(),
        form,
        passed_over,
    };
    Ok(Resolved {
        shards,
        index,
        choice,
        companions: Companions::beside(folder),
        folder: folder.to_owned(),
    })
}

/// Why a shard cannot be read, if so.
fn absent(path: &Path) -> Option<MissingShard> {
    let found = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return None,
        Ok(_) => "not a file",
        Err(error) if is_absence(&error) => match fs::symlink_metadata(path) {
            Ok(_) => "a link to nothing",
            Err(_) => "not there",
        },
        // Opening it gives a better error.
        Err(_) => return None,
    };
    Some(MissingShard {
        path: path.to_owned(),
        found,
    })
}

/// Whether an error means that the path does not exist, or cannot exist.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidFilename | InvalidInput
    )
}
