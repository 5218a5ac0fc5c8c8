//! What will be read, and into which memory: a pure function of the catalog, the placement and the
//! options.

mod assembled;
mod display;
mod layout;
mod open_group;
mod runs;
mod selection;
mod transform;

use std::collections::HashSet;

use serde::Serialize;
use tensorlift_device::GroupRules;
use tensorlift_tensor_meta::{
    Catalog, Dtype, Entry, Error, ErrorKind, Extent, RecordId, ShardId, Source,
};

use crate::dtype::Cast;
use crate::options::LoadOptions;

use layout::{Terms, Wanted};

pub use assembled::Assembly;
pub use selection::{Repeat, Selection};
pub use transform::Transform;

/// Ordered segments and the places of tensors, before anything runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Plan {
    /// The allocations, in the order of their shards.
    pub groups: Vec<PlannedGroup>,
    /// The segments, sorted by group and by position in it.
    pub segments: Vec<Segment>,
    /// Where each selected entry will be, in file order.
    pub places: Vec<Place>,
    /// Entries left out because they have no bytes: meta tensors, by position in the catalog.
    pub absent: Vec<usize>,
    /// Entries that keep their dtype although the load requests another, by position in the
    /// catalog: those that are not floats, and quantized ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<usize>,
    /// The bytes of the selected tensors; bytes that several share count once.
    pub bytes_wanted: u64,
    /// The bytes that the segments read, including gaps; bytes of several segments count each time.
    /// Executing reads such bytes once, and may read additional small gaps.
    pub bytes_to_read: u64,
    /// The most readers that a device of the load requests, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<usize>,
}

/// One allocation, or one mapped shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PlannedGroup {
    /// The kind of memory.
    pub memory: GroupMemory,
    /// The size in bytes.
    pub bytes: u64,
    /// The one dtype of its tensors, for devices that ask for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The position in the catalog of its one entry, for devices that ask for
    /// [exact](GroupRules::exact) groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// Where in a page its memory should begin, in bytes, so that direct reads land in place.
    pub page_offset: usize,
}

/// The memory of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupMemory {
    /// Allocated on the device at this position.
    Device(usize),
    /// A mapping of this shard, on the host.
    Mapped(ShardId),
}

/// Bytes to bring into a group: one read, unless it is cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Segment {
    /// Where the bytes come from.
    pub from: SegmentSource,
    /// The position of the group in [`Plan::groups`].
    pub group: usize,
    /// The first byte in the group.
    pub to: u64,
    /// How many bytes arrive.
    pub len: u64,
    /// Which bytes of the source arrive; all of them without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// How the bytes that arrive are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// How elements are converted after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cast: Option<Cast>,
}

/// Where the bytes of a segment come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SegmentSource {
    /// They lie in a shard as they are; without a selection, all of them arrive.
    Stored(Extent),
    /// They are inflated from bytes of a shard.
    Deflated {
        /// The deflated bytes.
        extent: Extent,
        /// How many bytes they inflate to.
        len: u64,
    },
    /// They are in the catalog.
    Inline(
        #[serde(serialize_with = "record_index")]
        #[cfg_attr(feature = "schema", schemars(with = "u64"))]
        RecordId,
    ),
}

/// Where an entry will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Place {
    /// The position of the entry in the catalog.
    pub entry: usize,
    /// The position of the group in [`Plan::groups`].
    pub group: usize,
    /// Its first byte in the group.
    pub offset: u64,
    /// Whether its elements are in row-major order, whatever strides the entry has.
    pub row_major: bool,
    /// The type of its elements once it is loaded.
    pub dtype: Dtype,
}

/// Plans a load of the entries for which `assign` names a device, by position in `rules`.
///
/// Entries keep the distances that they have in their shard, so that one read lands many of them
/// in place.
/// An entry that would not be aligned that way gets a separate place and segment, as does one whose
/// bytes are changed.
///
/// # Errors
/// [`ErrorKind::Misuse`] if `assign` names a device that does not exist;
/// [`ErrorKind::Unsupported`] if strided elements smaller than a byte are to be row-major;
/// [`ErrorKind::LimitExceeded`] if a group is larger than memory can be.
pub fn plan(
    catalog: &Catalog,
    mut assign: impl FnMut(&Entry) -> Option<usize>,
    rules: &[GroupRules],
    options: &LoadOptions,
) -> Result<Plan, Error> {
    plan_positions(catalog, |_, entry| assign(entry), rules, options)
}

/// As [`plan()`]; `assign` is told the position of each entry too.
pub(crate) fn plan_positions(
    catalog: &Catalog,
    mut assign: impl FnMut(usize, &Entry) -> Option<usize>,
    rules: &[GroupRules],
    options: &LoadOptions,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let casts = options.dtype.casts(catalog)?;
    let mut wanted = Vec::with_capacity(catalog.len());
    for (position, entry) in catalog.entries().iter().enumerate() {
        let Some(device) = assign(position, entry) else {
            continue;
        };
        if device >= rules.len() {
            let found = format!("expected a device below {}, found {device}", rules.len());
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_tensor(entry.name())
                .with_remedy("place it on a device of the placement"));
        }
        match catalog.record(entry).source {
            Source::Absent { .. } => plan.absent.push(position),
            _ => wanted.push(Wanted::new(entry, position, device)),
        }
    }
    // Stable, so that entries of the same bytes keep their order.
    if !wanted.is_sorted_by_key(|wanted| wanted.sort_key(rules, &casts)) {
        wanted.sort_by_key(|wanted| wanted.sort_key(rules, &casts));
    }
    plan.places.reserve_exact(wanted.len());
    let mut decoded = HashSet::new();
    let group_key = |wanted: &Wanted<'_>| wanted.group_key(rules, &casts);
    for wanted in wanted.chunk_by(|one, other| group_key(one) == group_key(other)) {
        let terms = Terms {
            catalog,
            rules: &rules[wanted[0].device as usize],
            options,
            casts: &casts,
        };
        plan.readers = plan.readers.max(terms.rules.readers);
        layout::lay_out(&mut plan, wanted, group_key(&wanted[0]), &terms)?;
        plan.bytes_wanted += layout::union_bytes(wanted, &terms, &mut decoded);
    }
    plan.places.sort_unstable_by_key(|place| place.entry);
    let kept = casts.kept().iter().copied();
    let is_placed = |position: &usize| {
        let places = &plan.places;
        places
            .binary_search_by_key(position, |place| place.entry)
            .is_ok()
    };
    plan.kept = kept.filter(is_placed).collect();
    plan.bytes_to_read = plan.segments.iter().map(Segment::bytes_to_read).sum();
    for group in &plan.groups {
        // Room for the alignment of the memory.
        if usize::try_from(group.bytes).is_err() || group.bytes > isize::MAX as u64 / 2 {
            let found = format!(
                "a group of {} bytes is larger than memory can be",
                group.bytes
            );
            return Err(Error::new(ErrorKind::LimitExceeded, found));
        }
    }
    Ok(plan)
}

impl Plan {
    /// The bytes that will be allocated on the device at this position.
    #[must_use]
    pub fn bytes_on(&self, device: usize) -> u64 {
        let groups = self
            .groups
            .iter()
            .filter(|group| group.memory == GroupMemory::Device(device));
        groups.map(|group| group.bytes).sum()
    }

    /// The bytes that will be read of each shard; `shards` is their number.
    #[must_use]
    pub fn bytes_of_shards(&self, shards: usize) -> Vec<u64> {
        let mut bytes = vec![0; shards];
        for extent in self.segments.iter().filter_map(Segment::extent) {
            bytes[extent.shard.index()] += extent.len;
        }
        bytes
    }

    /// The bytes that will be allocated in all; mappings take none.
    #[must_use]
    pub fn bytes_to_allocate(&self) -> u64 {
        let groups = self.groups.iter();
        groups
            .filter(|group| !group.is_mapped())
            .map(|group| group.bytes)
            .sum()
    }
}

impl Place {
    /// The place of row-major elements from the first byte of a group on.
    #[must_use]
    pub const fn whole(entry: usize, group: usize, dtype: Dtype) -> Self {
        Self {
            entry,
            group,
            offset: 0,
            row_major: true,
            dtype,
        }
    }
}

impl PlannedGroup {
    /// Whether it is a mapping.
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        matches!(self.memory, GroupMemory::Mapped(_))
    }
}

impl Segment {
    /// The bytes of a shard that it reads.
    #[must_use]
    pub const fn extent(&self) -> Option<Extent> {
        match self.from {
            SegmentSource::Stored(extent) | SegmentSource::Deflated { extent, .. } => Some(extent),
            SegmentSource::Inline(_) => None,
        }
    }

    /// Whether all bytes of the source arrive, and no others.
    pub(crate) const fn is_same_len(&self) -> bool {
        self.selection.is_none() && self.cast.is_none()
    }

    /// How many bytes it reads from a shard.
    #[must_use]
    pub fn bytes_to_read(&self) -> u64 {
        self.extent().map_or(0, |extent| extent.len)
    }
}

fn record_index<S: serde::Serializer>(record: &RecordId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(record.index() as u64)
}
