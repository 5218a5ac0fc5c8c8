use std::io;
use std::path::PathBuf;

use tensorlift_tensor_meta::{CatalogError, ShardId};
use thiserror::Error;

use crate::choice::PassedOver;
use crate::hub::{HubMiss, HubNameError};
use crate::index::IndexError;
use crate::listing::Listing;

mod convert;
mod message;

use message::{MissingShardsLine, NoCheckpointLine, NoVariantLine, NotFoundLine};

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
        /// What was requested.
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
    #[error("expected a file, found a folder, a device, a pipe or a socket")]
    NotAFile {
        /// The target.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
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
    /// The requested variant does not exist.
    #[error("{}", NoVariantLine { variant, available })]
    NoVariant {
        /// The folder.
        folder: PathBuf,
        /// What was requested.
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
        /// Other checkpoints in the folder; none replaces the broken one.
        alternatives: Vec<PassedOver>,
    },
    /// An index was named, but the target is a file.
    #[error("expected a folder to use the index for, found a file")]
    IndexOfFile {
        /// The target.
        path: PathBuf,
    },
    /// A snapshot of the Hugging Face cache is not complete.
    #[error("{error}; the snapshot seems incomplete, this fetches the rest: {command}")]
    InSnapshot {
        /// The command that fetches what is missing.
        command: String,
        /// What is missing.
        error: Box<Error>,
    },
    /// The index file is invalid.
    #[error("{error}")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        error: IndexError,
    },
    /// The text is not a valid model name or revision.
    #[error("{error}")]
    HubName {
        /// What is wrong with it.
        error: HubNameError,
    },
    /// A file under `refs/` in the Hugging Face cache does not hold a commit.
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
    /// The shards do not form one catalog.
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

/// Every contradiction between an index and its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflicts {
    /// The index file, where it is known.
    pub index: Option<PathBuf>,
    /// The shards that the numbers below refer to.
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
