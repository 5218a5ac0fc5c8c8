//! Laying out one group: which extents are read together, and where they land.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::slice;

use tensorlift_device::GroupRules;
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Extent, RecordId, ShardId, Source};

use super::{Fix, GroupMemory, Place, Plan, PlannedGroup, Segment, SegmentSource};
use crate::options::{Mode, PlanOptions};

/// Direct reads need file offset and address to agree modulo this many bytes.
const DIRECT_ALIGNMENT: u64 = 4096;
/// Segments from this length on are placed so that direct reads can land in them.
const DIRECT_BYTES: u64 = 64 << 10;
/// Places of small segments agree with their file offset modulo a cache line.
const SMALL_ALIGNMENT: u64 = 64;
/// Reading along a page or less costs nothing that can be measured.
const FREE_GAP_BYTES: u64 = 4096;
/// How often a run is searched for the alignment that suits most of what is left of it.
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
            // A catalog has at most `u32::MAX` entries, and nobody has as many devices.
            position: position as u32,
            device: device as u32,
        }
    }

    fn extent(&self) -> Extent {
        self.entry.extent()
    }

    fn place(&self, group: usize, offset: u64) -> Place {
        Place {
            entry: self.position as usize,
            group,
            offset,
        }
    }

    /// Brings together what shares memory, in the order of the shard.
    pub(super) fn key(&self, rules: &[GroupRules]) -> (Memory, u64, u64) {
        let Extent { offset, len, .. } = self.extent();
        (self.memory(rules), offset, len)
    }

    /// Entries for which this is the same share a group.
    pub(super) fn memory(&self, rules: &[GroupRules]) -> Memory {
        let one_dtype = rules[self.device as usize].one_dtype;
        let dtype = one_dtype.then_some(self.entry.dtype());
        (self.extent().shard, self.device, dtype)
    }
}

/// A shard, a device, and a dtype where groups have only one.
pub(super) type Memory = (ShardId, u32, Option<Dtype>);

/// What holds for all entries that share memory.
pub(super) struct Terms<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) rules: &'a GroupRules,
    pub(super) options: &'a PlanOptions,
}

impl Terms<'_> {
    fn alignment(&self, wanted: &Wanted<'_>) -> u64 {
        let own = wanted.entry.dtype().alignment();
        own.max(self.rules.tensor_alignment) as u64
    }

    /// Whether an entry's bytes lie in the shard as they are, and need no mending.
    fn is_plain(&self, wanted: &Wanted<'_>) -> bool {
        let entry = wanted.entry;
        let is_stored = matches!(self.catalog.record(entry).source, Source::Stored(_));
        is_stored && entry.layout().is_plain(entry.dtype())
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
pub(super) fn lay(plan: &mut Plan, wanted: &[Wanted<'_>], memory: Memory, terms: &Terms<'_>) {
    let (mapped, rest) = split(wanted, |wanted| terms.views_in_place(wanted));
    let (shard, device, dtype) = memory;
    if !mapped.is_empty() {
        lay_mapped(plan, shard, &mapped, terms.options);
    }
    if rest.is_empty() {
        return;
    }
    let first = plan.groups.len();
    let mut open = OpenGroup {
        device: device as usize,
        dtype,
        terms,
        plan,
    };
    open.start();
    let (together, alone) = split(&rest, |wanted| terms.is_plain(wanted));
    let (merge_gap, max_bytes) = (terms.options.merge_gap_bytes, terms.rules.max_bytes);
    let mut left = together;
    for _ in 0..ROUNDS {
        let mut strays = Vec::new();
        for run in runs(&left, merge_gap, max_bytes) {
            let shift = terms.best_shift(run);
            let (suited, other) = split(run, |wanted| terms.suits(wanted, shift));
            strays.extend_from_slice(&other);
            for run in runs(&suited, merge_gap, max_bytes) {
                open.place_run(run, shift);
            }
        }
        left = Cow::Owned(strays);
    }
    for stray in &*left {
        open.place_run(slice::from_ref(stray), terms.shift(stray));
    }
    open.place_alone(&alone);
    open.round_up();
    // Segments were added in the order of rounds.
    let added = plan
        .segments
        .partition_point(|segment| segment.group < first);
    plan.segments[added..].sort_unstable_by_key(|segment| (segment.group, segment.to));
}

/// Those for which `holds` is true and the others; nothing is copied where all are alike.
fn split<'s, 'a>(
    wanted: &'s [Wanted<'a>],
    holds: impl Fn(&Wanted<'a>) -> bool,
) -> (Cow<'s, [Wanted<'a>]>, Cow<'s, [Wanted<'a>]>) {
    let none = || Cow::Borrowed(&[][..]);
    let alike = match wanted.first() {
        None => return (none(), none()),
        Some(first) => holds(first),
    };
    if wanted.iter().all(|wanted| holds(wanted) == alike) {
        return match alike {
            true => (Cow::Borrowed(wanted), none()),
            false => (none(), Cow::Borrowed(wanted)),
        };
    }
    let (yes, no): (Vec<_>, Vec<_>) = wanted.iter().partition(|wanted| holds(wanted));
    (Cow::Owned(yes), Cow::Owned(no))
}

/// The bytes that entries of one memory cover, each byte of a shard once; sorted by place.
///
/// `seen` holds the decoded records that were counted already.
pub(super) fn union_bytes(
    catalog: &Catalog,
    wanted: &[Wanted<'_>],
    seen: &mut HashSet<RecordId>,
) -> u64 {
    let (mut bytes, mut end) = (0, 0);
    for Wanted { entry, .. } in wanted {
        let (record, extent) = (catalog.record(entry), entry.extent());
        if let Source::Stored(_) = record.source {
            bytes += extent.end().saturating_sub(end.max(extent.offset));
            end = end.max(extent.end());
        } else if seen.insert(entry.view().record) {
            bytes += record.len().unwrap_or(0);
        }
    }
    bytes
}

/// Views into a mapping: nothing moves, and the segments say what to populate.
fn lay_mapped(plan: &mut Plan, shard: ShardId, wanted: &[Wanted<'_>], options: &PlanOptions) {
    let group = plan.groups.len();
    let memory = GroupMemory::Mapped(shard);
    let bytes = hull(wanted).end();
    plan.groups.push(PlannedGroup {
        memory,
        bytes,
        dtype: None,
    });
    for run in runs(wanted, options.merge_gap_bytes, u64::MAX) {
        let extent = hull(run);
        if !extent.is_empty() {
            let from = SegmentSource::Stored(extent);
            let Extent {
                offset: to, len, ..
            } = extent;
            plan.segments.push(Segment {
                from,
                group,
                to,
                len,
                fix: None,
            });
        }
    }
    plan.places.extend(
        wanted
            .iter()
            .map(|wanted| wanted.place(group, wanted.extent().offset)),
    );
}

/// The group that segments are added to.
struct OpenGroup<'p, 't> {
    plan: &'p mut Plan,
    device: usize,
    dtype: Option<Dtype>,
    terms: &'t Terms<'t>,
}

impl OpenGroup<'_, '_> {
    fn start(&mut self) {
        let memory = GroupMemory::Device(self.device);
        self.plan.groups.push(PlannedGroup {
            memory,
            bytes: 0,
            dtype: self.dtype,
        });
    }

    /// Takes `len` bytes at an offset that is `residue` modulo `modulus`, in a new group if this
    /// one would grow too large.
    fn take(&mut self, len: u64, residue: u64, modulus: u64) -> (usize, u64) {
        let place = |end: u64| end.saturating_add(residue.wrapping_sub(end) % modulus);
        let end = self.plan.groups.last().map_or(0, |group| group.bytes);
        if end > 0 && place(end).saturating_add(len) > self.terms.rules.max_bytes {
            self.round_up();
            self.start();
        }
        let index = self.plan.groups.len() - 1;
        let group = &mut self.plan.groups[index];
        let to = place(group.bytes);
        group.bytes = to.saturating_add(len);
        (index, to)
    }

    /// Places entries that are read together.
    fn place_run(&mut self, run: &[Wanted<'_>], shift: u64) {
        let extent = hull(run);
        let alignments = run.iter().map(|wanted| self.terms.alignment(wanted));
        let alignment = alignments.max().unwrap_or(1);
        let wish = if extent.len >= DIRECT_BYTES {
            DIRECT_ALIGNMENT
        } else {
            SMALL_ALIGNMENT
        };
        let modulus = alignment.max(wish);
        let residue = extent.offset.wrapping_add(shift) % modulus;
        let (group, to) = self.take(extent.len, residue, modulus);
        if !extent.is_empty() {
            let from = SegmentSource::Stored(extent);
            self.plan.segments.push(Segment {
                from,
                group,
                to,
                len: extent.len,
                fix: None,
            });
        }
        self.plan.places.extend(run.iter().map(|wanted| {
            wanted.place(
                group,
                to.saturating_add(wanted.extent().offset - extent.offset),
            )
        }));
    }

    /// Places entries that cannot lie as they do in the shard: mended, inflated, inline.
    ///
    /// Plain views of one decoded record share it.
    fn place_alone(&mut self, alone: &[Wanted<'_>]) {
        let catalog = self.terms.catalog;
        let mut decoded: HashMap<(RecordId, u64), (usize, u64)> = HashMap::new();
        for wanted in alone {
            let view = wanted.entry.view();
            // Where the entry begins in what arrives, and how much arrives.
            let (extent, alignment) = (wanted.extent(), self.terms.alignment(wanted));
            let (from, start, len) = match &catalog.record(wanted.entry).source {
                Source::Stored(_) => (SegmentSource::Stored(extent), 0, extent.len),
                Source::Deflated { extent, len } => {
                    (SegmentSource::Deflated(*extent), view.offset, *len)
                }
                Source::Inline { bytes, .. } => (
                    SegmentSource::Inline(view.record),
                    view.offset,
                    bytes.len() as u64,
                ),
                _ => continue,
            };
            let fix = Fix::of(wanted.entry).map(|fix| Fix { from: start, ..fix });
            let residue = start.wrapping_neg() % alignment;
            let known = decoded
                .get(&(view.record, residue))
                .filter(|_| fix.is_none());
            let (group, to) = match known {
                Some(&place) => place,
                None => {
                    let modulus = alignment.max(SMALL_ALIGNMENT);
                    let place @ (group, to) = self.take(len, residue, modulus);
                    if len > 0 {
                        self.plan.segments.push(Segment {
                            from,
                            group,
                            to,
                            len,
                            fix,
                        });
                    }
                    if fix.is_none() {
                        decoded.insert((view.record, residue), place);
                    }
                    place
                }
            };
            self.plan
                .places
                .push(wanted.place(group, to.saturating_add(start)));
        }
    }

    /// Makes the group a whole number of elements and cache lines.
    fn round_up(&mut self) {
        if let Some(group) = self.plan.groups.last_mut() {
            let unit = SMALL_ALIGNMENT.max(self.terms.rules.tensor_alignment as u64);
            group.bytes = group
                .bytes
                .checked_next_multiple_of(unit)
                .unwrap_or(u64::MAX);
        }
    }
}

/// Cuts entries, sorted by place, into runs that are worth one read each.
fn runs<'s, 'a>(
    mut sorted: &'s [Wanted<'a>],
    merge_gap: u64,
    max_bytes: u64,
) -> impl Iterator<Item = &'s [Wanted<'a>]> {
    std::iter::from_fn(move || {
        let first = sorted.first()?.extent();
        let (start, mut end) = (first.offset, first.end());
        // Read of the run so far: what is wanted, and the gaps that are not free.
        let (mut useful, mut wasted) = (first.len, 0);
        let mut len = 1;
        for next in &sorted[1..] {
            let next = next.extent();
            let gap = next.offset.saturating_sub(end);
            let cost = if gap > FREE_GAP_BYTES { gap } else { 0 };
            let fresh = next.end().saturating_sub(end.max(next.offset));
            // Never more waste than use, beyond what is free.
            let pays = gap <= merge_gap && wasted + cost <= useful + fresh;
            let longest = end.max(next.end()) - start;
            if (gap > 0 && !pays) || longest > max_bytes {
                break;
            }
            useful += fresh;
            wasted += cost;
            end = end.max(next.end());
            len += 1;
        }
        let (run, rest) = sorted.split_at(len);
        sorted = rest;
        Some(run)
    })
}

/// The extent that covers a run.
fn hull(run: &[Wanted<'_>]) -> Extent {
    let Extent { shard, offset, .. } = run[0].extent();
    let end = run
        .iter()
        .map(|wanted| wanted.extent().end())
        .max()
        .unwrap_or(offset);
    Extent::new(shard, offset, end - offset)
}
