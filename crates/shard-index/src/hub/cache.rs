use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::HubName;
use super::expand::{expand, home};
use crate::choice::lossy;
use crate::listing::Listing;
use crate::{Environment, Error};

/// Bytes of a file under `refs/` that are read; a commit has 40.
const REF_BYTES: u64 = 256;

/// How many known revisions an error holds.
const KNOWN: usize = 100;

/// A snapshot found in the Hugging Face cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HubEntry {
    /// The model: `org/name` or `name`.
    pub repo: String,
    /// The revision asked for.
    pub revision: String,
    /// The commit that it resolves to in this cache.
    pub commit: String,
    /// The folder of the snapshot.
    #[serde(serialize_with = "lossy")]
    pub snapshot: PathBuf,
}

/// A model that the Hugging Face cache does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubMiss {
    /// What was asked for.
    pub name: HubName,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// What was missing.
    pub reason: MissReason,
}

/// What a [`HubMiss`] did not find.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissReason {
    /// The folder of the model.
    Repo(PathBuf),
    /// The revision; the known ones are listed.
    Revision {
        /// The revisions and commits that are there, at most 100.
        known: Vec<String>,
    },
    /// The folder of the snapshot that the revision resolves to.
    Snapshot(PathBuf),
}

/// The folder of the Hugging Face cache, found as Python's `huggingface_hub` finds it.
///
/// `HF_HUB_CACHE`; else `HUGGINGFACE_HUB_CACHE`; else `hub` in `HF_HOME`, which is `huggingface`
/// in `XDG_CACHE_HOME`, or in `~/.cache`, where it is not set.
/// A variable that is set but empty counts as set.
/// `~`, `$NAME` and `${NAME}` are expanded.
#[must_use]
pub fn hub_cache(environment: &Environment) -> PathBuf {
    let expanded = |value: OsString| PathBuf::from(expand(value, environment));
    let caches = || match environment.var("XDG_CACHE_HOME") {
        Some(caches) => PathBuf::from(caches),
        None => Path::new(&home(environment)).join(".cache"),
    };
    let hub = || {
        let home = environment.var("HF_HOME");
        let home = home.unwrap_or_else(|| caches().join("huggingface").into());
        expanded(home).join("hub").into()
    };
    // Python expands the default once more after expanding its variables; so does this.
    expanded(
        environment
            .var("HF_HUB_CACHE")
            .or_else(|| environment.var("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(hub),
    )
}

/// The snapshot of a model in a cache.
pub(crate) fn find(name: &HubName, cache: &Path) -> Result<Result<HubEntry, HubMiss>, Error> {
    let folder = cache.join(format!("models--{}", name.repo().replace('/', "--")));
    if !folder.is_dir() {
        return Ok(Err(miss(name, cache, MissReason::Repo(folder))));
    }
    find_in(name, &folder)
}

/// The model whose folder in a cache this is.
pub(crate) fn repo_folder(folder: &Path) -> Option<HubName> {
    let repo = folder.file_name()?.to_str()?.strip_prefix("models--")?;
    let name = repo.replacen("--", "/", 1).parse().ok()?;
    folder.join("snapshots").is_dir().then_some(name)
}

/// The snapshot of a model whose folder in a cache is known.
pub(crate) fn find_in(name: &HubName, folder: &Path) -> Result<Result<HubEntry, HubMiss>, Error> {
    let cache = folder.parent().unwrap_or(folder);
    let revision = name.revision();
    let snapshots = folder.join("snapshots");
    let commit = if is_commit(revision) {
        revision.to_owned()
    } else if let Some(commit) = read_ref(&folder.join("refs").join(revision))? {
        commit
    } else if !revision.contains('/') && snapshots.join(revision).is_dir() {
        revision.to_owned()
    } else {
        let known = known(folder);
        return Ok(Err(miss(name, cache, MissReason::Revision { known })));
    };
    let snapshot = snapshots.join(&commit);
    if !snapshot.is_dir() {
        return Ok(Err(miss(name, cache, MissReason::Snapshot(snapshot))));
    }
    Ok(Ok(HubEntry {
        repo: name.repo().to_owned(),
        revision: revision.to_owned(),
        commit,
        snapshot,
    }))
}

fn miss(name: &HubName, cache: &Path, reason: MissReason) -> HubMiss {
    HubMiss {
        name: name.clone(),
        cache: cache.to_owned(),
        reason,
    }
}

fn is_commit(revision: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    revision.len() == 40 && revision.bytes().all(is_hex)
}

/// The commit that a file under `refs/` names; `None` where there is no such file.
fn read_ref(path: &Path) -> Result<Option<String>, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        _ => return Ok(None),
    }
    let io = |error: io::Error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(REF_BYTES).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8_lossy(&bytes);
    let commit = text.trim_end_matches(['\r', '\n']);
    // The commit becomes a component of a path.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if commit.is_empty() || commit.len() > 128 || !commit.bytes().all(is_name) {
        return Err(Error::CorruptRef {
            path: path.to_owned(),
            found: commit.to_owned(),
        });
    }
    Ok(Some(commit.to_owned()))
}

/// The revisions and commits a model's folder has, as far as they can be listed.
fn known(folder: &Path) -> Vec<String> {
    let mut known = Vec::new();
    // One level of folders covers names such as `pr/1`.
    for name in children(&folder.join("refs")) {
        let path = folder.join("refs").join(&name);
        if path.is_dir() {
            known.extend(
                children(&path)
                    .into_iter()
                    .map(|child| format!("{name}/{child}")),
            );
        } else {
            known.push(name);
        }
    }
    known.sort();
    known.extend(children(&folder.join("snapshots")));
    known.truncate(KNOWN);
    known
}

fn children(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter_map(|name| Some(OsStr::to_str(&name)?.to_owned()))
        .take(KNOWN)
        .collect();
    names.sort();
    names
}

impl fmt::Display for HubMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HubMiss {
            name,
            cache,
            reason,
        } = self;
        write!(f, "the Hugging Face cache {} ", cache.display())?;
        match reason {
            MissReason::Repo(folder) => {
                let folder = crate::listing::name(folder).display();
                write!(f, "does not hold {:?} (no folder {folder})", name.repo())?;
            }
            MissReason::Revision { known } if known.is_empty() => {
                let (repo, revision) = (name.repo(), name.revision());
                write!(f, "holds no revision of {repo:?}, so not {revision:?}")?;
            }
            MissReason::Revision { known } => {
                let (repo, revision) = (name.repo(), name.revision());
                let known = Listing::plain(known);
                write!(
                    f,
                    "holds {repo:?}, but not its revision {revision:?} (it has {known})"
                )?;
            }
            MissReason::Snapshot(folder) => {
                let (repo, revision, folder) = (name.repo(), name.revision(), folder.display());
                write!(
                    f,
                    "knows {repo:?} at {revision:?}, but has no folder {folder}"
                )?;
            }
        }
        write!(f, "; this fetches it: {}", name.fetch_command())
    }
}
