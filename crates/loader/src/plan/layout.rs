//! The layout of one group: which extents are read together, and where they land.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::slice;

use tensorlift_device::GroupRules;
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Error, Extent, RecordId, ShardId, Source};

use super::open_group::OpenGroup;
use super::runs::{covering, runs, split};
use super::{GroupMemory, Place, Plan, PlannedGroup, Segment, SegmentSource};
use crate::dtype::{Cast, Casts};
use crate::options::{LoadOptions, Mode};

/// How many times the remaining entries are searched for the alignment that suits most of them.
const ROUNDS: usize = 8;

/// A selected entry, as the layout sees it; small, since there are as many as entries.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    position: u32,
    pub(super) device: u32,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(entry: &'a Entry, position: usize, device: usize) -> Self {
        Self {
            entry,
            // A catalog has at most `u32::MAX` entries; devices are fewer.
            position: position as u32,
            device: device as u32,
        }
    }

    pub(super) fn extent(&self) -> Extent {
        self.entry.extent()
    }

    pub(super) fn place(&self, group: usize, offset: u64, row_major: bool, casts: &Casts) -> Place {
        Place {
            dtype: self.dtype(casts),
            entry: self.position as usize,
            group,
            offset,
            row_major: row_major || self.entry.layout().is_contiguous(),
        }
    }

    /// How its elements are converted.
    pub(super) fn cast(&self, casts: &Casts) -> Option<Cast> {
        casts.of(self.position as usize)
    }

    /// Its dtype once it is loaded.
    pub(super) fn dtype(&self, casts: &Casts) -> Dtype {
        self.cast(casts).map_or(self.entry.dtype(), Cast::to)
    }

    /// Sorts entries that share memory next to each other, in the order of the shard.
    pub(super) fn sort_key(&self, rules: &[GroupRules], casts: &Casts) -> (GroupKey, u64, u64) {
        let Extent { offset, len, .. } = self.extent();
        (self.group_key(rules, casts), offset, len)
    }

    /// Entries for which this is the same share a group.
    pub(super) fn group_key(&self, rules: &[GroupRules], casts: &Casts) -> GroupKey {
        let one_dtype = rules[self.device as usize].one_dtype;
        let dtype = one_dtype.then_some(self.dtype(casts));
        (self.extent().shard, self.device, dtype)
    }
}

/// A shard, a device, and a dtype where groups have only one.
pub(super) type GroupKey = (ShardId, u32, Option<Dtype>);

/// The conditions that all entries of shared memory have in common.
pub(super) struct Terms<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) rules: &'a GroupRules,
    pub(super) options: &'a LoadOptions,
    pub(super) casts: &'a Casts,
}

impl Terms<'_> {
    pub(super) fn alignment(&self, wanted: &Wanted<'_>) -> u64 {
        let own = wanted.dtype(self.casts).alignment();
        own.max(self.rules.tensor_alignment) as u64
    }

    /// Whether strided elements are brought into row-major order.
    pub(super) fn gathers(&self, wanted: &Wanted<'_>) -> bool {
        let to_row_major = self.options.row_major || self.rules.exact;
        to_row_major && !wanted.entry.layout().is_contiguous()
    }

    /// Whether an entry's bytes arrive as they are in the shard.
    fn is_plain(&self, wanted: &Wanted<'_>) -> bool {
        let entry = wanted.entry;
        let is_stored = matches!(self.catalog.record(entry).source, Source::Stored(_));
        let is_changed = self.gathers(wanted) || wanted.cast(self.casts).is_some();
        is_stored && entry.layout().is_plain(entry.dtype()) && !is_changed
    }

    /// Whether an entry can be viewed where it lies in a mapping of its shard.
    fn views_in_place(&self, wanted: &Wanted<'_>) -> bool {
        self.options.mode == Mode::Map && self.is_plain(wanted) && self.suits(wanted, 0)
    }

    /// Whether an entry is aligned if everything moves by `shift` bytes.
    fn suits(&self, wanted: &Wanted<'_>, shift: u64) -> bool {
        let moved = wanted.extent().offset.wrapping_add(shift);
        moved.is_multiple_of(self.alignment(wanted))
    }

    /// The least shift that aligns an entry.
    fn shift(&self, wanted: &Wanted<'_>) -> u64 {
        wanted.extent().offset.wrapping_neg() % self.alignment(wanted)
    }

    /// The shift that aligns most bytes of a run; 0, which direct reads need, if it aligns all.
    fn best_shift(&self, run: &[Wanted<'_>]) -> u64 {
        if run.iter().all(|wanted| self.suits(wanted, 0)) {
            return 0;
        }
        let mut weights: HashMap<u64, u64> = HashMap::new();
        for wanted in run {
            // Empty entries must be aligned too.
            *weights.entry(self.shift(wanted)).or_default() += wanted.extent().len.max(1);
        }
        let heaviest = weights
            .into_iter()
            .max_by_key(|&(shift, weight)| (weight, u64::MAX - shift));
        heaviest.map_or(0, |(shift, _)| shift)
    }
}

/// Adds the groups, segments and places of entries that share memory, sorted by their place in
/// the shard.
pub(super) fn lay_out(
    plan: &mut Plan,
    wanted: &[Wanted<'_>],
    key: GroupKey,
    terms: &Terms<'_>,
) -> Result<(), Error> {
    let (shard, device, dtype) = key;
    let (mapped, rest) = split(wanted, |wanted| terms.views_in_place(wanted));
    if !mapped.is_empty() {
        add_mapped(plan, shard, &mapped, terms);
    }
    if rest.is_empty() {
        return Ok(());
    }
    let first = plan.groups.len();
    let mut open = OpenGroup::new(plan, device as usize, dtype, terms);
    if terms.rules.exact {
        return rest.iter().try_for_each(|wanted| open.place_exact(wanted));
    }
    open.start();
    let (together, alone) = split(&rest, |wanted| terms.is_plain(wanted));
    place_together(&mut open, together, terms);
    open.place_alone(&alone)?;
    open.round_up();
    // Segments were added in the order of rounds.
    let added = plan
        .segments
        .partition_point(|segment| segment.group < first);
    plan.segments[added..].sort_unstable_by_key(|segment| (segment.group, segment.to));
    Ok(())
}

/// Places runs of entries so that they keep their distances, each run at the alignment that suits
/// most of it; the others get separate places.
fn place_together(open: &mut OpenGroup<'_, '_>, entries: Cow<'_, [Wanted<'_>]>, terms: &Terms<'_>) {
    let (merge_gap, max_bytes) = (terms.options.merge_gap_bytes, terms.rules.max_bytes);
    let mut left = entries;
    for _ in 0..ROUNDS {
        let mut misaligned = Vec::new();
        for run in runs(&left, merge_gap, max_bytes) {
            let shift = terms.best_shift(run);
            let (suited, other) = split(run, |wanted| terms.suits(wanted, shift));
            misaligned.extend_from_slice(&other);
            for run in runs(&suited, merge_gap, max_bytes) {
                open.place_run(run, shift);
            }
        }
        left = Cow::Owned(misaligned);
    }
    for wanted in &*left {
        open.place_run(slice::from_ref(wanted), terms.shift(wanted));
    }
}

/// The bytes that entries of one group cover, each byte of a shard once; sorted by place.
///
/// `seen` holds the decoded records that were counted already.
pub(super) fn union_bytes(
    wanted: &[Wanted<'_>],
    terms: &Terms<'_>,
    seen: &mut HashSet<RecordId>,
) -> u64 {
    let (mut bytes, mut end) = (0, 0);
    for wanted in wanted {
        let (entry, extent) = (wanted.entry, wanted.extent());
        let record = terms.catalog.record(entry);
        if terms.gathers(wanted) {
            bytes += entry.byte_len();
        } else if let Source::Stored(_) = record.source {
            bytes += extent.end().saturating_sub(end.max(extent.offset));
            end = end.max(extent.end());
        } else if seen.insert(entry.view().record) {
            bytes += record.len().unwrap_or(0);
        }
    }
    bytes
}

/// Views into a mapping: nothing moves, and the segments say what to populate.
fn add_mapped(plan: &mut Plan, shard: ShardId, wanted: &[Wanted<'_>], terms: &Terms<'_>) {
    let group = plan.groups.len();
    plan.groups.push(PlannedGroup {
        memory: GroupMemory::Mapped(shard),
        bytes: covering(wanted).end(),
        dtype: None,
        entry: None,
        page_offset: 0,
    });
    for run in runs(wanted, terms.options.merge_gap_bytes, u64::MAX) {
        let extent = covering(run);
        if !extent.is_empty() {
            plan.segments.push(Segment {
                from: SegmentSource::Stored(extent),
                group,
                to: extent.offset,
                len: extent.len,
                selection: None,
                transform: None,
                cast: None,
            });
        }
    }
    plan.places.extend(
        wanted
            .iter()
            .map(|wanted| wanted.place(group, wanted.extent().offset, false, terms.casts)),
    );
}
