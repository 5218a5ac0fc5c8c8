use std::fmt;
use std::io;
use std::path::PathBuf;

use tensorlift_tensor_meta::{CatalogError, Error as MetaError, ErrorKind, ShardId};
use thiserror::Error;

use crate::hub::{HubMiss, HubNameError};
use crate::index::IndexError;
use crate::listing::{Listing, name};

/// Why the files of a checkpoint could not be found, or do not fit together.
///
/// Lists are whole; the message shows the first few of each.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The target is empty.
    #[error("expected a path or a hub name, found an empty text")]
    EmptyTarget,
    /// The target is neither a path nor a model in the cache.
    #[error("{}", NotFoundLine { folder, near, hub: hub.as_deref() })]
    NotFound {
        /// What was asked for.
        target: PathBuf,
        /// The deepest folder of that path that exists.
        folder: PathBuf,
        /// Paths in there with nearly the missing name.
        near: Vec<PathBuf>,
        /// What the Hugging Face cache lacks, if the target can be a hub name.
        hub: Option<Box<HubMiss>>,
    },
    /// The folder of a model in the Hugging Face cache does not hold the default revision.
    #[error("{0}")]
    NotCached(Box<HubMiss>),
    /// A link leads to nothing.
    #[error("expected a file, found a link to {}, which is not there", to.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// The target is a device, a pipe or a socket.
    #[error("expected a file or a folder, found a device, a pipe or a socket")]
    NotAFile {
        /// The target.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is nothing in the folder.
    #[error("expected a checkpoint, found an empty folder")]
    EmptyFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no checkpoint among the files of the folder.
    #[error("{}", NoCheckpointLine { unsupported, folders })]
    NoCheckpoint {
        /// The folder.
        folder: PathBuf,
        /// Files that hold tensors in a format that is not supported.
        unsupported: Vec<PathBuf>,
        /// Folders within it that seem to hold checkpoints.
        folders: Vec<PathBuf>,
    },
    /// Several files could be meant.
    #[error(
        "expected one checkpoint, found several: {}",
        Listing::names(candidates)
    )]
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// Those that could be meant; of numbered parts the first.
        candidates: Vec<PathBuf>,
    },
    /// The variant that was asked for is not there.
    #[error(
        "expected files of variant {variant:?}, found variants [{}]",
        Listing::quoted(available)
    )]
    NoVariant {
        /// The folder.
        folder: PathBuf,
        /// What was asked for.
        variant: String,
        /// What is there.
        available: Vec<String>,
    },
    /// A series of numbered files has gaps, and there is no index.
    #[error(
        "expected {} parts, found {}; missing: {}",
        present.len() + missing.len(), present.len(), Listing::names(missing)
    )]
    MissingParts {
        /// The folder.
        folder: PathBuf,
        /// The parts that are there.
        present: Vec<PathBuf>,
        /// Those that are not.
        missing: Vec<PathBuf>,
    },
    /// Shards that the index names, or parts that the folder lists, cannot be read.
    #[error("{}", MissingShardsLine { shards: *shards, missing, alternatives })]
    MissingShards {
        /// The index file, where there is one.
        index: Option<PathBuf>,
        /// How many shards there should be.
        shards: usize,
        /// Those that are missing.
        missing: Vec<MissingShard>,
        /// Other checkpoints in the folder; none is taken in place of the broken one.
        alternatives: Vec<PathBuf>,
    },
    /// A snapshot of the Hugging Face cache is not complete.
    #[error("{source}; the snapshot seems incomplete, this fetches the rest: {command}")]
    InSnapshot {
        /// The command that fetches what is missing.
        command: String,
        /// What is missing.
        source: Box<Error>,
    },
    /// The index file cannot be believed.
    #[error("{source}")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// No model can have that name, or no revision.
    #[error("{source}")]
    HubName {
        /// What is wrong with it.
        source: HubNameError,
    },
    /// A file under `refs/` in the Hugging Face cache names no commit.
    #[error("expected a commit, found {found:?}")]
    CorruptRef {
        /// The file.
        path: PathBuf,
        /// Its beginning.
        found: String,
    },
    /// Index and shards disagree, or the shards with each other.
    #[error("{0}")]
    Conflicts(Box<Conflicts>),
    /// Catalogs were given for more or fewer files than there are shards.
    #[error("expected {shards} catalogs, one for each shard, found {catalogs}")]
    ShardCount {
        /// How many shards there are.
        shards: usize,
        /// How many catalogs were given.
        catalogs: usize,
    },
    /// The shards cannot make up one catalog.
    #[error(transparent)]
    Catalog(CatalogError),
}

/// A shard that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingShard {
    /// Where it should be.
    pub path: PathBuf,
    /// What is there: `"not there"`, `"not a file"`, `"a link to nothing"`.
    pub found: &'static str,
}

/// All that does not fit together between an index and its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflicts {
    /// The index file, where it is known.
    pub index: Option<PathBuf>,
    /// The shards that the numbers below stand for.
    pub shards: Vec<PathBuf>,
    /// Tensors that the index lists and no shard holds, in the order of the index.
    pub missing: Vec<MissingTensor>,
    /// Tensors in another shard than the index says, in the order of the index.
    pub misplaced: Vec<MisplacedTensor>,
    /// Tensors in several shards, in the order in which the second one was met.
    pub repeated: Vec<RepeatedTensor>,
}

/// A tensor that the index lists and no shard holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingTensor {
    /// Its name.
    pub name: String,
    /// The shard that the index names.
    pub listed: ShardId,
}

/// A tensor in another shard than the index says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MisplacedTensor {
    /// Its name.
    pub name: String,
    /// The shard that the index names.
    pub listed: ShardId,
    /// The shard that holds it.
    pub found: ShardId,
}

/// A tensor in several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepeatedTensor {
    /// Its name.
    pub name: String,
    /// The shards that hold it.
    pub shards: Vec<ShardId>,
}

impl Conflicts {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.misplaced.is_empty() && self.repeated.is_empty()
    }

    /// The tensor at fault, where there is only one.
    fn only_tensor(&self) -> Option<&str> {
        let missing = self.missing.iter().map(|tensor| &tensor.name);
        let misplaced = self.misplaced.iter().map(|tensor| &tensor.name);
        let repeated = self.repeated.iter().map(|tensor| &tensor.name);
        let mut all = missing.chain(misplaced).chain(repeated);
        all.next()
            .filter(|_| all.next().is_none())
            .map(String::as_str)
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |shard: ShardId| {
            let path = self.shards.get(shard.index());
            path.map_or_else(
                || format!("shard {}", shard.0),
                |path| name(path).display().to_string(),
            )
        };
        let missing = Listing::with(&self.missing, |tensor, f| {
            write!(f, "{:?} (listed in {})", tensor.name, file(tensor.listed))
        });
        let misplaced = Listing::with(&self.misplaced, |tensor, f| {
            let (listed, found) = (file(tensor.listed), file(tensor.found));
            write!(
                f,
                "{:?} (listed in {listed}, found in {found})",
                tensor.name
            )
        });
        let repeated = Listing::with(&self.repeated, |tensor, f| {
            let shards: Vec<_> = tensor.shards.iter().map(|&shard| file(shard)).collect();
            write!(f, "{:?} ({})", tensor.name, Listing::plain(&shards))
        });
        let groups: [(_, &str, &dyn fmt::Display); 3] = [
            (self.missing.len(), "in no shard", &missing),
            (
                self.misplaced.len(),
                "in another shard than the index says",
                &misplaced,
            ),
            (self.repeated.len(), "in several shards", &repeated),
        ];
        let mut separator = "";
        for (count, what, list) in groups.into_iter().filter(|&(count, ..)| count > 0) {
            let s = if count == 1 { "" } else { "s" };
            write!(f, "{separator}{count} tensor{s} {what}: {list}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl fmt::Display for MissingShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", name(&self.path))?;
        match self.found {
            "not there" => Ok(()),
            found => write!(f, " ({found})"),
        }
    }
}

struct NotFoundLine<'a> {
    folder: &'a PathBuf,
    near: &'a [PathBuf],
    hub: Option<&'a HubMiss>,
}

impl fmt::Display for NotFoundLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such file or folder")?;
        if !self.near.is_empty() {
            let folder = self.folder.display();
            write!(f, "; nearest in {folder}: {}", Listing::names(self.near))?;
        }
        match self.hub {
            Some(miss) => write!(f, "; as a hub name: {miss}"),
            None => Ok(()),
        }
    }
}

struct NoCheckpointLine<'a> {
    unsupported: &'a [PathBuf],
    folders: &'a [PathBuf],
}

impl fmt::Display for NoCheckpointLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a .safetensors, .bin, .pt, .pth or .ckpt file, found ")?;
        if self.unsupported.is_empty() {
            f.write_str("none")?;
        } else {
            let files = Listing::names(self.unsupported);
            write!(f, "only formats that are not supported: {files}")?;
        }
        if !self.folders.is_empty() {
            write!(
                f,
                "; these folders in it have some: {}",
                Listing::names(self.folders)
            )?;
        }
        Ok(())
    }
}

struct MissingShardsLine<'a> {
    shards: usize,
    missing: &'a [MissingShard],
    alternatives: &'a [PathBuf],
}

impl fmt::Display for MissingShardsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, missing) = (self.missing.len(), Listing::plain(self.missing));
        write!(f, "{count} of {} shards missing: {missing}", self.shards)?;
        if !self.alternatives.is_empty() {
            let others = Listing::names(self.alternatives);
            write!(f, "; the folder has also {others}, to be named if meant")?;
        }
        Ok(())
    }
}

impl From<Error> for MetaError {
    fn from(error: Error) -> Self {
        let kind = kind(&error);
        let path = path(&error).cloned();
        let tensor = match &error {
            Error::Conflicts(conflicts) => conflicts.only_tensor().map(str::to_owned),
            _ => None,
        };
        let remedy = remedy(&error);
        let mut error = MetaError::new(kind, error);
        if let Some(path) = path {
            error = error.with_path(path);
        }
        if let Some(tensor) = tensor {
            error = error.with_tensor(tensor);
        }
        match remedy {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}

impl From<IndexError> for MetaError {
    fn from(error: IndexError) -> Self {
        let remedy = index_remedy(&error);
        MetaError::new(index_kind(&error), error).with_remedy(remedy)
    }
}

fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::EmptyTarget
        | Error::NotAFile { .. }
        | Error::Ambiguous { .. }
        | Error::HubName { .. }
        | Error::ShardCount { .. } => ErrorKind::Misuse,
        Error::NoCheckpoint {
            unsupported,
            folders,
            ..
        } if !unsupported.is_empty() && folders.is_empty() => ErrorKind::Unsupported,
        Error::NotFound { .. }
        | Error::NotCached(_)
        | Error::DanglingLink { .. }
        | Error::EmptyFolder { .. }
        | Error::NoCheckpoint { .. }
        | Error::NoVariant { .. }
        | Error::MissingParts { .. }
        | Error::MissingShards { .. } => ErrorKind::NotFound,
        Error::Io { .. } => ErrorKind::Storage,
        Error::InSnapshot { source, .. } => kind(source),
        Error::Index { source, .. } => index_kind(source),
        Error::CorruptRef { .. } | Error::Conflicts(_) => ErrorKind::Malformed,
        Error::Catalog(CatalogError::TooMany) => ErrorKind::LimitExceeded,
        Error::Catalog(_) => ErrorKind::Malformed,
    }
}

fn index_kind(error: &IndexError) -> ErrorKind {
    match error {
        IndexError::LimitExceeded { .. } => ErrorKind::LimitExceeded,
        _ => ErrorKind::Malformed,
    }
}

fn path(error: &Error) -> Option<&PathBuf> {
    match error {
        Error::NotFound { target: path, .. }
        | Error::DanglingLink { path, .. }
        | Error::NotAFile { path }
        | Error::Io { path, .. }
        | Error::EmptyFolder { folder: path }
        | Error::NoCheckpoint { folder: path, .. }
        | Error::Ambiguous { folder: path, .. }
        | Error::NoVariant { folder: path, .. }
        | Error::MissingParts { folder: path, .. }
        | Error::Index { path, .. }
        | Error::CorruptRef { path, .. } => Some(path),
        Error::MissingShards { index, missing, .. } => {
            index.as_ref().or_else(|| Some(&missing.first()?.path))
        }
        Error::InSnapshot { source, .. } => path(source),
        Error::NotCached(miss) => Some(&miss.cache),
        Error::Conflicts(conflicts) => conflicts.index.as_ref(),
        Error::EmptyTarget
        | Error::HubName { .. }
        | Error::ShardCount { .. }
        | Error::Catalog(_) => None,
    }
}

fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::EmptyTarget => "name a file, a folder or a model in the cache",
        Error::NotFound { hub: None, .. } => "check the spelling",
        Error::DanglingLink { .. } => "fetch the file again, or mend the link",
        Error::NotAFile { .. } => "copy the bytes to a file first",
        Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "allow this user to read it"
        }
        Error::EmptyFolder { .. } => "fetch the checkpoint into it, or name another folder",
        Error::NoCheckpoint { folders, .. } if !folders.is_empty() => "name one of the folders",
        Error::NoCheckpoint { .. } => "convert it to safetensors, or name another folder",
        Error::Ambiguous { .. } => "name one of the files, or a variant",
        Error::NoVariant { .. } => "ask for one that is there, or for none",
        Error::MissingParts { .. } | Error::MissingShards { .. } => "fetch what is missing",
        Error::Index { source, .. } => index_remedy(source),
        Error::HubName { .. } => "write it as \"org/name\" or \"org/name@revision\"",
        Error::CorruptRef { .. } => "fetch the model again",
        Error::Conflicts(_) => "fetch index and shards again, all from one revision",
        Error::ShardCount { .. } => "pass one catalog for each shard, in their order",
        Error::Catalog(_) => "fetch the shards again",
        // The messages name the command, or there is nothing to say.
        Error::NotFound { .. }
        | Error::NotCached(_)
        | Error::Io { .. }
        | Error::InSnapshot { .. } => return None,
    })
}

fn index_remedy(error: &IndexError) -> &'static str {
    match error {
        IndexError::LimitExceeded { .. } => "raise the limit if the file is trusted",
        IndexError::NoWeightMap => "name the folder, or the index file itself",
        IndexError::LfsPointer => "fetch the file itself, with git lfs pull",
        _ => "fetch the index again",
    }
}
