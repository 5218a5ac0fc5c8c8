use std::fmt;
use std::sync::Arc;

use crate::{Extent, ShardId};

/// Names a [`Record`] within its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub(super) u32);

impl RecordId {
    /// The position in [`Catalog::records`](crate::Catalog::records).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of bytes that entries are views of.
///
/// In a safetensors file every tensor has its own; in a PyTorch file it is one storage, which
/// tied weights and slices share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where the bytes come from.
    pub source: Source,
    /// The CRC-32 that the archive declares for the bytes.
    pub declared_crc32: Option<u32>,
}

/// Where a record's bytes come from.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// They lie in the shard as they are.
    Stored(Extent),
    /// They lie in the shard as a raw deflate stream.
    Deflated {
        /// The compressed bytes.
        extent: Extent,
        /// The declared length in bytes once inflated.
        len: u64,
    },
    /// They were encoded in the shard's metadata and are decoded already.
    Inline {
        /// The shard that they come from.
        shard: ShardId,
        /// The decoded bytes.
        bytes: Arc<[u8]>,
    },
    /// There are none: a meta tensor has shape and dtype only.
    Absent {
        /// The shard that lists the tensor.
        shard: ShardId,
    },
}

impl Record {
    /// A record whose bytes lie in the shard as they are.
    #[must_use]
    pub const fn stored(extent: Extent) -> Self {
        Self::new(Source::Stored(extent))
    }

    /// A record without a declared checksum.
    #[must_use]
    pub const fn new(source: Source) -> Self {
        Self {
            source,
            declared_crc32: None,
        }
    }

    /// Sets [`declared_crc32`](Self#structfield.declared_crc32).
    #[must_use]
    pub fn crc32(mut self, declared: impl Into<Option<u32>>) -> Self {
        self.declared_crc32 = declared.into();
        self
    }

    /// The length of the bytes once decoded, or `None` if there are none.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.source {
            Source::Stored(extent) => Some(extent.len),
            Source::Deflated { len, .. } => Some(*len),
            Source::Inline { bytes, .. } => Some(bytes.len() as u64),
            Source::Absent { .. } => None,
        }
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len().is_none_or(|len| len == 0)
    }

    /// The bytes of the shard that must be read for it.
    #[must_use]
    pub fn extent(&self) -> Extent {
        match &self.source {
            Source::Stored(extent) | Source::Deflated { extent, .. } => *extent,
            Source::Inline { shard, .. } | Source::Absent { shard } => Extent::new(*shard, 0, 0),
        }
    }
}

impl Source {
    pub(super) fn shard_mut(&mut self) -> &mut ShardId {
        match self {
            Source::Stored(extent) | Source::Deflated { extent, .. } => &mut extent.shard,
            Source::Inline { shard, .. } | Source::Absent { shard } => shard,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stored(extent) => write!(f, "Stored({extent})"),
            Source::Deflated { extent, len } => write!(f, "Deflated({extent} to {len} bytes)"),
            Source::Inline { bytes, .. } => write!(f, "Inline({} bytes)", bytes.len()),
            Source::Absent { .. } => f.write_str("Absent"),
        }
    }
}
