use std::collections::BTreeMap;
use std::fmt;

use tensorlift_tensor_meta::{Limits, NameIndex, ShardId};
use thiserror::Error;

use crate::listing::Listing;

mod draft;
mod metadata;
mod parse;
mod shard_name;

pub use shard_name::{BadShardName, ShardNameFault};

/// What an index file says: which tensor lies in which shard.
///
/// The shards are numbered in the order in which the index first names them.
/// Their names were checked: joined to the folder of the index, each stays inside it.
///
/// ```
/// use tensorlift_shard_index::Index;
/// use tensorlift_tensor_meta::{Limits, NameIndex, ShardId};
///
/// let bytes = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "2.safetensors"}}"#;
/// let index = Index::parse(bytes, &Limits::default())?;
/// assert_eq!(index.shard_of("a"), Some(ShardId(0)));
/// assert_eq!(&*index.shards()[0], "2.safetensors");
/// assert_eq!(index.total_size(), Some(8));
/// # Ok::<(), tensorlift_shard_index::IndexError>(())
/// ```
#[derive(Clone)]
pub struct Index {
    names: Names,
    shard_of: Vec<u32>,
    shards: Vec<Box<str>>,
    total_size: Option<u64>,
    metadata: BTreeMap<String, String>,
}

/// Why an index file is invalid.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It is not UTF-8.
    #[error("expected UTF-8, found other bytes")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is not JSON, or JSON of another shape.
    #[error("expected an index: {0}")]
    Json(String),
    /// It is a JSON object without a `weight_map`.
    #[error("expected an index, found JSON without a \"weight_map\"")]
    NoWeightMap,
    /// The `weight_map` is empty.
    #[error("the index lists no tensor")]
    NoTensors,
    /// It is a Git LFS pointer in place of the file.
    #[error("expected an index, found a Git LFS pointer")]
    LfsPointer,
    /// Tensors are listed more than once.
    #[error("the index lists tensors more than once: {}", Listing::quoted(.0))]
    DuplicateNames(Vec<String>),
    /// `weight_map`, `metadata` or a key of the metadata is given more than once.
    #[error("the key {0:?} is given more than once")]
    DuplicateKey(String),
    /// Shard names could point outside the folder.
    #[error("shard names that may leave the folder: {}", Listing::plain(.0))]
    ShardNames(Vec<BadShardName>),
    /// A ceiling was crossed.
    #[error("expected at most {limit} {what}, found {found}")]
    LimitExceeded {
        /// What was counted.
        what: &'static str,
        /// The ceiling.
        limit: u64,
        /// The count so far.
        found: u64,
    },
    /// The system has no memory for the names.
    #[error("no memory for the names that the index lists")]
    NoMemory,
}

/// What is counted up to [`Index::MAX_SHARDS`], which no limit raises.
pub(crate) const SHARDS: &str = "shards";

impl Index {
    /// The most shards an index may name. The largest checkpoints have about a thousand.
    pub const MAX_SHARDS: usize = 100_000;

    /// Reads the bytes of an index file.
    ///
    /// Keys beside `weight_map` and `metadata` are skipped.
    /// Values of the metadata that are lists or objects are skipped too.
    ///
    /// # Errors
    /// If it is not an index, names a tensor twice, names a shard outside the folder, or crosses
    /// [`Limits::header_bytes`], [`Limits::tensors`], [`Limits::name_bytes`],
    /// [`Limits::metadata_entries`] or [`MAX_SHARDS`](Self::MAX_SHARDS), or if the system has no
    /// memory for its names.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, IndexError> {
        parse::parse(bytes, limits)
    }

    /// The number of tensors listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shard_of.len()
    }

    /// Whether no tensor is listed; never so for an index that was parsed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shard_of.is_empty()
    }

    /// The tensors and their shards, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ShardId)> {
        let shards = self.shard_of.iter().map(|&shard| ShardId(shard));
        (0..self.len())
            .map(|position| self.names.get(position))
            .zip(shards)
    }

    /// The shard that is said to hold this tensor.
    #[must_use]
    pub fn shard_of(&self, name: &str) -> Option<ShardId> {
        let position = self.names.find(name)?;
        Some(ShardId(self.shard_of[position]))
    }

    /// The names of the shards, relative to the folder of the index, in the order of first use.
    #[must_use]
    pub fn shards(&self) -> &[Box<str>] {
        &self.shards
    }

    /// The bytes of all tensors as declared; writers disagree whether tied ones count twice.
    #[must_use]
    pub const fn total_size(&self) -> Option<u64> {
        self.total_size
    }

    /// The texts, numbers and truth values of `metadata`, as text.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("tensors", &self.len())
            .field("shards", &self.shards)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// Two indexes are equal if they list the same in the same order.
impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        (&self.names.text, &self.names.ends) == (&other.names.text, &other.names.ends)
            && (&self.shard_of, &self.shards) == (&other.shard_of, &other.shards)
            && (&self.metadata, self.total_size) == (&other.metadata, other.total_size)
    }
}

impl Eq for Index {}

/// Names in one string, with their positions by name: a million names do not cost a million
/// allocations.
#[derive(Clone, Default)]
struct Names {
    text: String,
    /// Where each name ends in `text`; `u32`, since a longer file is refused.
    ends: Vec<u32>,
    positions: NameIndex,
}

impl Names {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, position: usize) -> &str {
        let first = position.checked_sub(1).map_or(0, |last| self.ends[last]);
        &self.text[first as usize..self.ends[position] as usize]
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.positions.find(name, |position| self.get(position))
    }

    /// Adds a name, without its entry in the table.
    fn push(&mut self, name: &str) -> Result<(), IndexError> {
        let text = self.text.try_reserve(name.len());
        text.and_then(|()| self.ends.try_reserve(1))
            .map_err(|_| IndexError::NoMemory)?;
        self.text.push_str(name);
        // Bounded by the length of the file, which fits.
        self.ends.push(self.text.len() as u32);
        Ok(())
    }

    /// Adds the last name to the table; returns its first position if it was there already.
    fn index_last(&mut self) -> Result<Option<usize>, IndexError> {
        let Some(last) = self.len().checked_sub(1) else {
            return Ok(None);
        };
        self.make_room(1)?;
        Ok(self.index(last))
    }

    /// Adds all names to the table and returns the first position of each repeated name.
    ///
    /// Done once at the end, since the table then has its final size.
    fn index_all(&mut self) -> Result<Vec<usize>, IndexError> {
        self.make_room(self.len())?;
        let mut repeated: Vec<usize> = (0..self.len()).filter_map(|p| self.index(p)).collect();
        repeated.sort_unstable();
        repeated.dedup();
        Ok(repeated)
    }

    /// Makes room in the table for that many more names.
    fn make_room(&mut self, additional: usize) -> Result<(), IndexError> {
        let mut positions = std::mem::take(&mut self.positions);
        let room = positions.try_reserve(additional, |position| self.get(position));
        self.positions = positions;
        room.map_err(|_| IndexError::NoMemory)
    }

    /// Adds a name to the table, which has room for it.
    fn index(&mut self, position: usize) -> Option<usize> {
        let mut positions = std::mem::take(&mut self.positions);
        let name_at = |position| self.get(position);
        let known = positions.insert(name_at(position), position as u32, name_at);
        self.positions = positions;
        known
    }

    /// Removes the last name, which is not in the table.
    fn pop(&mut self) {
        self.ends.pop();
        let end = self.ends.last().map_or(0, |&end| end as usize);
        self.text.truncate(end);
    }
}
