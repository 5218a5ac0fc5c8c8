use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Which shard of a checkpoint, counted from 0 in the order of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The only shard of a checkpoint that is one file.
    pub const FIRST: ShardId = ShardId(0);

    /// The position in a list of shards.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A range of bytes in a shard.
///
/// The end never overflows: [`Extent::new`] caps nothing and panics on nothing, because formats
/// check a declared range against the shard's length before they build one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Extent {
    /// The shard the bytes lie in.
    pub shard: ShardId,
    /// The first byte, counted from the start of the shard.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl Extent {
    /// The `len` bytes of `shard` from `offset` on.
    #[must_use]
    pub const fn new(shard: ShardId, offset: u64, len: u64) -> Self {
        Self { shard, offset, len }
    }

    /// The first byte past the extent, capped at `u64::MAX`.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// The byte positions within the shard.
    #[must_use]
    pub const fn range(self) -> Range<u64> {
        self.offset..self.end()
    }

    /// Whether it covers no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The `len` bytes that begin `offset` bytes into this extent, if they lie within it.
    #[must_use]
    pub fn slice(self, offset: u64, len: u64) -> Option<Extent> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| Extent::new(self.shard, self.offset + offset, len))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset, self.end())
    }
}
