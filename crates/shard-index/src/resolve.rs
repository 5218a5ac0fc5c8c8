use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tensorlift_tensor_meta::Catalog;

use crate::choice::{Choice, Companions, Form, Reason, Route};
use crate::error::MissingShard;
use crate::folder::{self, Selection};
use crate::hub::{self, HubEntry, HubName, HubNameError, hub_cache};
use crate::near::{Near, near};
use crate::{Error, Index, IndexError, Merged, ResolveOptions, file_name, merge};

/// The files of one checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The shards, each once: in the order in which the index first names them, or by number.
    pub shards: Vec<PathBuf>,
    /// What the index file says, where there is one.
    pub index: Option<Index>,
    /// What was chosen and what was passed over.
    pub choice: Choice,
    /// The folder of the chosen file.
    pub folder: PathBuf,
    /// Configuration and tokenizer beside it.
    pub companions: Companions,
}

/// Finds the files of the checkpoint that `target` names: a file, an index file, a folder, or a
/// model in the Hugging Face cache.
///
/// A path that exists is always meant as a path.
/// See the [crate's page](crate) for the order in which the files of a folder are preferred.
/// Shards are not opened, but each must be there.
///
/// # Errors
/// If there is nothing, if what there is cannot be told apart, or if part of it is missing: then
/// all that is missing is named, and nothing else is loaded in its place.
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
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_json = name.ends_with(".json");
    if is_json || begins_like_json(path)? {
        match read_index(path, options) {
            Ok(index) => {
                let selection = Selection::only(path, Form::Index);
                return finish(path, Route::File, selection, Some(index));
            }
            Err(error) if is_json || file_name::is_index(&name) => return Err(error),
            // Of another name: what it is will be found by whoever opens it.
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    finish(path, Route::File, Selection::only(path, Form::Single), None)
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
    let Near { folder, paths } = near(target);
    Err(Error::NotFound {
        target: target.to_owned(),
        folder,
        near: paths,
        hub: miss,
    })
}

/// The hub name that was meant; an error where it was meant for sure, but is wrong.
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
    select(&snapshot, options, Route::Hub(entry)).map_err(|error| match error {
        Error::EmptyFolder { .. }
        | Error::NoCheckpoint { .. }
        | Error::DanglingLink { .. }
        | Error::MissingParts { .. }
        | Error::MissingShards { .. } => Error::InSnapshot {
            command: name.fetch_command(),
            error: Box::new(error),
        },
        other => other,
    })
}

fn select(folder: &Path, options: &ResolveOptions, route: Route) -> Result<Resolved, Error> {
    let selection = folder::choose(folder, options.variant.as_deref())?;
    let chosen = selection.files[0].clone();
    let index = match selection.form {
        Form::Index => Some(read_index(&chosen, options)?),
        Form::Single | Form::Parts => None,
    };
    finish(&chosen, route, selection, index)
}

fn finish(
    chosen: &Path,
    route: Route,
    selection: Selection,
    index: Option<Index>,
) -> Result<Resolved, Error> {
    let Selection {
        files,
        form,
        mut passed_over,
    } = selection;
    let folder = match chosen.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let shards: Vec<_> = match &index {
        Some(index) => index
            .shards()
            .iter()
            .map(|name| folder.join(&**name))
            .collect(),
        None => files,
    };
    let missing: Vec<_> = shards.iter().filter_map(|shard| absent(shard)).collect();
    match (&index, missing.is_empty()) {
        (_, true) => {}
        (None, false) if form == Form::Single => {
            let path = chosen.to_owned();
            let to = fs::read_link(chosen).unwrap_or_default();
            return Err(Error::DanglingLink { path, to });
        }
        _ => {
            let others = passed_over.into_iter();
            let others = others.filter(|other| other.reason == Reason::Precedence);
            return Err(Error::MissingShards {
                index: index.is_some().then(|| chosen.to_owned()),
                shards: shards.len(),
                missing,
                alternatives: others.map(|other| other.path).collect(),
            });
        }
    }
    let used: HashSet<_> = shards.iter().map(PathBuf::as_path).collect();
    passed_over.retain(|other| !used.contains(other.path.as_path()));
    drop(used);
    let choice = Choice {
        part: match (&route, form, chosen.file_name()) {
            (Route::File, Form::Single, Some(name)) => file_name::part_of(&name.to_string_lossy()),
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
        // Opening it will tell more.
        Err(_) => return None,
    };
    Some(MissingShard {
        path: path.to_owned(),
        found,
    })
}

fn read_index(path: &Path, options: &ResolveOptions) -> Result<Index, Error> {
    let refused = |error: IndexError| Error::Index {
        path: path.to_owned(),
        error,
    };
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::DanglingLink {
            path: path.to_owned(),
            to: fs::read_link(path).unwrap_or_default(),
        },
        _ => Error::Io {
            path: path.to_owned(),
            error,
        },
    };
    let limit = options.limits.header_bytes;
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    if len > limit {
        return Err(refused(IndexError::LimitExceeded {
            what: "bytes of an index file",
            limit,
            found: len,
        }));
    }
    // Once more than the limit, so that a file that grows meanwhile is refused, not cut.
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default() + 1);
    let mut file = file.take(limit.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(io)?;
    Index::parse(&bytes, &options.limits).map_err(refused)
}

/// Whether the first bytes can begin a JSON object. Those of a safetensors file cannot: a length
/// in 8 bytes has zeros in it; nor can those of an archive or a pickle.
fn begins_like_json(path: &Path) -> Result<bool, Error> {
    let io = |error: io::Error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::with_capacity(8);
    let file = File::open(path).map_err(io)?;
    file.take(8).read_to_end(&mut bytes).map_err(io)?;
    let text = bytes.trim_ascii_start();
    let is_text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
    Ok(text.first() == Some(&b'{') && bytes.iter().all(is_text))
}

/// Whether an error means that there is no such path, names that no path can have included.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidFilename | InvalidInput
    )
}
