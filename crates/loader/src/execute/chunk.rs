//! A chunk: bytes that one thread reads at once, and the places they go to.

use tensorlift_device::Staging;
use tensorlift_tensor_meta::{Extent, ShardId};

use crate::plan::Segment;

/// Bytes of one source and the parts of segments that they hold.
pub(super) struct Chunk<'a> {
    pub(super) source: ChunkSource<'a>,
    /// At least one unless the bytes are only hashed; more where small neighbours are read
    /// together, or where one record has several targets.
    pub(super) parts: Vec<ChunkPart<'a>>,
    /// The part of the bytes of a shard that is hashed when they are read.
    pub(super) hashed: Option<Extent>,
}

/// Where the bytes of a chunk come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkSource<'a> {
    /// They lie in a shard as they are.
    Stored(Extent),
    /// `len` bytes once inflated.
    Deflated { extent: Extent, len: u64 },
    /// They are in the catalog.
    Inline(&'a [u8]),
}

/// A part of a segment.
pub(super) struct ChunkPart<'a> {
    pub(super) segment: &'a Segment,
    /// The first byte of the segment's source that belongs to the part.
    pub(super) at: u64,
    /// Bytes of the source; a [`Selection`](crate::Selection) passes on fewer.
    pub(super) len: u64,
    pub(super) target: Target<'a>,
}

/// Where a part goes.
pub(super) enum Target<'a> {
    /// Host memory, as long as what arrives.
    Host(&'a mut [u8]),
    /// A place in a group behind staging slots.
    Staged {
        staging: &'a dyn Staging,
        to: usize,
        len: usize,
    },
    /// Nowhere: the group is a mapping of the source.
    Mapping,
}

/// Whether a device read a chunk from the file itself.
pub(super) enum PullOutcome {
    Done,
    /// For this reason.
    Refused(String),
    /// The device does not read files, or the bytes had to pass through the host.
    NotAsked,
}

impl ChunkSource<'_> {
    /// The bytes of a shard that are read.
    pub(super) fn extent(&self) -> Option<Extent> {
        match *self {
            ChunkSource::Stored(extent) | ChunkSource::Deflated { extent, .. } => Some(extent),
            ChunkSource::Inline(_) => None,
        }
    }
}

impl<'a> Chunk<'a> {
    pub(super) fn shard(&self) -> Option<ShardId> {
        self.source.extent().map(|extent| extent.shard)
    }

    /// Bytes of a shard that it reads.
    pub(super) fn bytes_read(&self) -> u64 {
        self.source.extent().map_or(0, |extent| extent.len)
    }

    /// Bytes that arrive in groups.
    pub(super) fn bytes_arriving(&self) -> u64 {
        self.parts.iter().map(ChunkPart::bytes_arriving).sum()
    }

    /// Bytes that go through staging slots.
    pub(super) fn bytes_staged(&self) -> u64 {
        let staged = |part: &ChunkPart<'_>| match part.target {
            Target::Staged { len, .. } => len as u64,
            _ => 0,
        };
        self.parts.iter().map(staged).sum()
    }

    /// Bytes beside its targets that it takes to run, at most: a record that is decoded and then
    /// picked from, a source that is read whole before its bytes are put in order.
    ///
    /// Rule: memory that a file sizes is counted before it is allocated. Sources of up to
    /// `chunk_bytes` are not: their size is the caller's choice.
    pub(super) fn scratch_bytes(&self, chunk_bytes: u64) -> u64 {
        let is_in_place = match &self.parts[..] {
            [part] => part.segment.is_same_len() && matches!(part.target, Target::Host(_)),
            _ => false,
        };
        let source = match self.source {
            ChunkSource::Deflated { len, .. } if !is_in_place => len,
            ChunkSource::Stored(extent) if !is_in_place && extent.len > chunk_bytes => extent.len,
            _ => return 0,
        };
        let parts = self.parts.iter().map(ChunkPart::scratch_bytes);
        source.saturating_add(parts.max().unwrap_or(0))
    }

    /// How it reaches groups that the host cannot write.
    pub(super) fn stagings(&self) -> impl Iterator<Item = &'a dyn Staging> {
        self.parts.iter().filter_map(|part| match part.target {
            Target::Staged { staging, .. } => Some(staging),
            _ => None,
        })
    }
}

impl ChunkPart<'_> {
    /// Bytes that arrive in the group.
    pub(super) fn bytes_arriving(&self) -> u64 {
        match &self.target {
            Target::Host(memory) => memory.len() as u64,
            Target::Staged { len, .. } => *len as u64,
            Target::Mapping => self.len,
        }
    }

    /// Bytes that are put in order or converted before they arrive.
    fn scratch_bytes(&self) -> u64 {
        let arriving = self.bytes_arriving();
        let staged = match self.target {
            Target::Staged { .. } if !self.is_verbatim() => arriving,
            _ => 0,
        };
        let unconverted = self.segment.cast.map_or(0, |cast| {
            let elements = arriving / cast.to().alignment() as u64;
            elements.saturating_mul(cast.from().alignment() as u64)
        });
        staged.saturating_add(unconverted)
    }

    /// Where the part begins in what was read for a chunk of stored bytes.
    pub(super) fn offset_in(&self, extent: Extent) -> usize {
        let segment = self.segment.extent().map_or(0, |whole| whole.offset);
        (segment + self.at - extent.offset) as usize
    }

    /// Whether the bytes arrive as they are in the source.
    pub(super) fn is_verbatim(&self) -> bool {
        let Segment {
            selection,
            transform,
            cast,
            ..
        } = self.segment;
        selection.is_none() && transform.is_none() && cast.is_none()
    }
}
