use std::fmt;

use super::RecordId;
use crate::{Dtype, Extent, Layout, ShardId};

/// The part of a record that an entry views, from `offset` bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The record.
    pub record: RecordId,
    /// The position of the first element in the record, in bytes.
    pub offset: u64,
}

/// A tensor as described: its name, its dtype, its layout and where its bytes lie.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) name: Box<str>,
    pub(super) layout: Layout,
    /// In pairs that share a word, since there are many entries.
    pub(super) record: RecordId,
    pub(super) shard: ShardId,
    pub(super) view_offset: u64,
    pub(super) extent_offset: u64,
    pub(super) extent_len: u64,
    pub(super) dtype: Dtype,
    pub(super) requires_grad: bool,
}

impl View {
    /// A view of a record from its first byte on.
    #[must_use]
    pub const fn whole(record: RecordId) -> Self {
        Self { record, offset: 0 }
    }

    /// A view of a record from `offset` bytes on.
    #[must_use]
    pub const fn at(record: RecordId, offset: u64) -> Self {
        Self { record, offset }
    }
}

impl Entry {
    /// The name; nested ones are joined with dots.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of each dimension, in elements.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// How the elements lie in the bytes.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The record and the offset that it views.
    #[must_use]
    pub const fn view(&self) -> View {
        View::at(self.record, self.view_offset)
    }

    /// The bytes of the shard that must be read for it: those from its first to its last element,
    /// or a whole compressed record.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        Extent::new(self.shard, self.extent_offset, self.extent_len)
    }

    /// The bytes from its first to its last element once decoded; those between strided elements
    /// count.
    #[must_use]
    pub fn span_bytes(&self) -> u64 {
        // Checked by the builder.
        self.layout.span_bytes(self.dtype).unwrap_or(u64::MAX)
    }

    /// The bytes of all its elements in row-major order without gaps.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        // Checked by the builder.
        self.layout.contiguous_bytes(self.dtype).unwrap_or(u64::MAX)
    }

    /// Whether the file marks it as trainable (PyTorch's `requires_grad`).
    #[must_use]
    pub const fn requires_grad(&self) -> bool {
        self.requires_grad
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, shard, offset) = (self.shape(), self.shard.0, self.extent_offset);
        write!(
            f,
            "{:?}: {}{shape:?} at {shard}:{offset}",
            self.name, self.dtype
        )
    }
}
