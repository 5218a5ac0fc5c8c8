//! Laying out one group: which extents are read together, and where they land.

use std::collections::{HashMap, HashSet};

use tensorlift_device::GroupRules;
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Extent, RecordId, ShardId, Source};

use super::{Fix, GroupMemory, Place, Plan, PlannedGroup, Segment, SegmentSource};
use crate::options::PlanOptions;

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
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    pub(super) extent: Extent,
    pub(super) alignment: u64,
    position: u32,
    pub(super) device: u32,
    dtype: Option<Dtype>,
    /// Whether its bytes lie in the shard as they are, and need no mending.
    pub(super) is_plain: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        position: usize,
        device: usize,
        rules: &GroupRules,
    ) -> Self {
        let entry = &catalog.entries()[position];
        let is_stored = matches!(catalog.record(entry).source, Source::Stored(_));
        Self {
            entry,
            extent: entry.extent(),
            alignment: entry.dtype().alignment().max(rules.tensor_alignment) as u64,
            // A catalog has at most `u32::MAX` entries, and nobody has as many devices.
            position: position as u32,
            device: device as u32,
            dtype: rules.one_dtype.then_some(entry.dtype()),
            is_plain: is_stored && entry.layout().is_plain(entry.dtype()),
        }
    }

    fn place(&self, group: usize, offset: u64) -> Place {
        Place {
            entry: self.position as usize,
            group,
            offset,
        }
    }

    /// Brings together what shares memory, in the order of the shard.
    pub(super) fn key(&self) -> (ShardId, u32, Option<Dtype>, u64, u64) {
        (
            self.extent.shard,
            self.device,
            self.dtype,
            self.extent.offset,
            self.extent.len,
        )
    }

    pub(super) fn same_memory(&self, other: &Self) -> bool {
        let memory = |wanted: &Self| (wanted.extent.shard, wanted.device, wanted.dtype);
        memory(self) == memory(other)
    }

    /// Whether it is aligned if everything moves by `shift` bytes.
    fn suits(&self, shift: u64) -> bool {
        (self.extent.offset.wrapping_add(shift)).is_multiple_of(self.alignment)
    }

    /// The least shift that aligns it.
    fn shift(&self) -> u64 {
        self.extent.offset.wrapping_neg() % self.alignment
    }
}

/// Adds the groups, segments and places of entries that share memory, sorted by their place in
/// the shard.
pub(super) fn lay(
    plan: &mut Plan,
    catalog: &Catalog,
    wanted: &[Wanted<'_>],
    rules: &GroupRules,
    options: &PlanOptions,
) {
    let (mapped, rest): (Vec<_>, Vec<_>) = wanted
        .iter()
        .partition(|wanted| options.views_in_place(wanted));
    if let Some(first) = mapped.first() {
        lay_mapped(plan, first.extent.shard, &mapped, options);
    }
    if rest.is_empty() {
        return;
    }
    let first = plan.groups.len();
    let mut open = OpenGroup {
        device: rest[0].device as usize,
        dtype: rest[0].dtype,
        rules,
        plan,
    };
    open.start();
    let (together, alone): (Vec<_>, Vec<_>) = rest.into_iter().partition(|wanted| wanted.is_plain);
    let mut left = together;
    for _ in 0..ROUNDS {
        let mut strays = Vec::new();
        for run in runs(&left, options.merge_gap_bytes, rules.max_bytes) {
            let shift = best_shift(run);
            let (suited, other): (Vec<_>, Vec<_>) =
                run.iter().copied().partition(|wanted| wanted.suits(shift));
            strays.extend(other);
            for run in runs(&suited, options.merge_gap_bytes, rules.max_bytes) {
                open.place_run(run, shift);
            }
        }
        left = strays;
    }
    for stray in left {
        open.place_run(&[stray], stray.shift());
    }
    open.place_alone(catalog, &alone);
    open.round_up();
    // Segments were added in the order of rounds.
    let added = plan
        .segments
        .partition_point(|segment| segment.group < first);
    plan.segments[added..].sort_unstable_by_key(|segment| (segment.group, segment.to));
}

/// The bytes that the selection covers, each byte of a shard once; sorted by place.
pub(super) fn union_bytes(catalog: &Catalog, wanted: &[Wanted<'_>]) -> u64 {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for group in wanted.chunk_by(Wanted::same_memory) {
        let mut end = 0;
        for Wanted { entry, extent, .. } in group {
            let record = catalog.record(entry);
            if let Source::Stored(_) = record.source {
                bytes += extent.end().saturating_sub(end.max(extent.offset));
                end = end.max(extent.end());
            } else if seen.insert(entry.view().record) {
                bytes += record.len().unwrap_or(0);
            }
        }
    }
    bytes
}

/// Views into a mapping: nothing moves, and the segments say what to populate.
fn lay_mapped(plan: &mut Plan, shard: ShardId, wanted: &[&Wanted<'_>], options: &PlanOptions) {
    let group = plan.groups.len();
    let memory = GroupMemory::Mapped(shard);
    let bytes = wanted
        .iter()
        .map(|wanted| wanted.extent.end())
        .max()
        .unwrap_or(0);
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
            .map(|wanted| wanted.place(group, wanted.extent.offset)),
    );
}

/// The group that segments are added to.
struct OpenGroup<'p, 'r> {
    plan: &'p mut Plan,
    device: usize,
    dtype: Option<Dtype>,
    rules: &'r GroupRules,
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
        if end > 0 && place(end).saturating_add(len) > self.rules.max_bytes {
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
    fn place_run(&mut self, run: &[&Wanted<'_>], shift: u64) {
        let extent = hull(run);
        let alignment = run.iter().map(|wanted| wanted.alignment).max().unwrap_or(1);
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
                to.saturating_add(wanted.extent.offset - extent.offset),
            )
        }));
    }

    /// Places entries that cannot lie as they do in the shard: mended, inflated, inline.
    ///
    /// Plain views of one decoded record share it.
    fn place_alone(&mut self, catalog: &Catalog, alone: &[&Wanted<'_>]) {
        let mut decoded: HashMap<(RecordId, u64), (usize, u64)> = HashMap::new();
        for wanted in alone {
            let view = wanted.entry.view();
            // Where the entry begins in what arrives, and how much arrives.
            let (from, start, len) = match &catalog.record(wanted.entry).source {
                Source::Stored(_) => (SegmentSource::Stored(wanted.extent), 0, wanted.extent.len),
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
            let residue = start.wrapping_neg() % wanted.alignment;
            let known = decoded
                .get(&(view.record, residue))
                .filter(|_| fix.is_none());
            let (group, to) = match known {
                Some(&place) => place,
                None => {
                    let modulus = wanted.alignment.max(SMALL_ALIGNMENT);
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
            let unit = SMALL_ALIGNMENT.max(self.rules.tensor_alignment as u64);
            group.bytes = group
                .bytes
                .checked_next_multiple_of(unit)
                .unwrap_or(u64::MAX);
        }
    }
}

/// Cuts entries, sorted by place, into runs that are worth one read each.
fn runs<'s, 'w, 'a>(
    mut sorted: &'s [&'w Wanted<'a>],
    merge_gap: u64,
    max_bytes: u64,
) -> impl Iterator<Item = &'s [&'w Wanted<'a>]> {
    std::iter::from_fn(move || {
        let first = sorted.first()?;
        let (start, mut end) = (first.extent.offset, first.extent.end());
        let mut useful = first.extent.len;
        let mut len = 1;
        for next in &sorted[1..] {
            let Extent {
                offset, len: bytes, ..
            } = next.extent;
            let gap = offset.saturating_sub(end);
            // Never more waste than use, beyond what is free.
            let pays = gap
                <= FREE_GAP_BYTES
                    .max(useful.saturating_add(bytes))
                    .min(merge_gap);
            let longest = end.max(next.extent.end()) - start;
            if (gap > 0 && !pays) || longest > max_bytes {
                break;
            }
            useful = useful.saturating_add(bytes);
            end = end.max(next.extent.end());
            len += 1;
        }
        let (run, rest) = sorted.split_at(len);
        sorted = rest;
        Some(run)
    })
}

/// The shift that aligns most bytes of a run; 0, which direct reads need, if it aligns all.
fn best_shift(run: &[&Wanted<'_>]) -> u64 {
    if run.iter().all(|wanted| wanted.suits(0)) {
        return 0;
    }
    let mut weights: HashMap<u64, u64> = HashMap::new();
    for wanted in run {
        // Empty entries must be aligned too.
        *weights.entry(wanted.shift()).or_default() += wanted.extent.len.max(1);
    }
    let heaviest = weights
        .into_iter()
        .max_by_key(|&(shift, weight)| (weight, u64::MAX - shift));
    heaviest.map_or(0, |(shift, _)| shift)
}

/// The extent that covers a run.
fn hull(run: &[&Wanted<'_>]) -> Extent {
    let Extent { shard, offset, .. } = run[0].extent;
    let end = run
        .iter()
        .map(|wanted| wanted.extent.end())
        .max()
        .unwrap_or(offset);
    Extent::new(shard, offset, end - offset)
}
