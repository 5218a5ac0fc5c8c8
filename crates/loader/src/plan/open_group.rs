//! The group that segments are added to.

use std::collections::HashMap;

use tensorlift_tensor_meta::{Dtype, Error, ErrorKind, Extent, Layout, RecordId, Source};

use super::layout::{Terms, Wanted};
use super::runs::covering;
use super::{GroupMemory, Plan, PlannedGroup, Segment, SegmentSource, Selection, Transform};
use crate::dtype::Cast;

/// Direct reads need file offset and address to agree modulo this many bytes.
const DIRECT_ALIGNMENT: u64 = 4096;
/// Segments from this length on are placed so that direct reads can land in them.
const DIRECT_BYTES: u64 = 64 << 10;
/// Places of small segments agree with their file offset modulo a cache line.
const SMALL_ALIGNMENT: u64 = 64;

pub(super) struct OpenGroup<'p, 't> {
    plan: &'p mut Plan,
    device: usize,
    dtype: Option<Dtype>,
    terms: &'t Terms<'t>,
}

/// The bytes that arrive for an entry with a separate place.
struct Arrival {
    from: SegmentSource,
    selection: Option<Selection>,
    transform: Option<Transform>,
    cast: Option<Cast>,
    len: u64,
    /// Where the entry begins among the bytes that arrive.
    start: u64,
}

/// Entries for which this is the same share a place: record, first byte and, where elements are
/// gathered or converted, what is.
type PlaceKey<'a> = (RecordId, u64, Option<(&'a Layout, Dtype)>);

impl<'p, 't> OpenGroup<'p, 't> {
    pub(super) fn new(
        plan: &'p mut Plan,
        device: usize,
        dtype: Option<Dtype>,
        terms: &'t Terms<'t>,
    ) -> Self {
        Self {
            plan,
            device,
            dtype,
            terms,
        }
    }

    pub(super) fn start(&mut self) {
        self.plan.groups.push(PlannedGroup {
            memory: GroupMemory::Device(self.device),
            bytes: 0,
            dtype: self.dtype,
            entry: None,
            page_offset: 0,
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
    pub(super) fn place_run(&mut self, run: &[Wanted<'_>], shift: u64) {
        let extent = covering(run);
        let alignments = run.iter().map(|wanted| self.terms.alignment(wanted));
        let alignment = alignments.max().unwrap_or(1);
        let preferred = if extent.len >= DIRECT_BYTES {
            DIRECT_ALIGNMENT
        } else {
            SMALL_ALIGNMENT
        };
        let modulus = alignment.max(preferred);
        let residue = extent.offset.wrapping_add(shift) % modulus;
        let (group, to) = self.take(extent.len, residue, modulus);
        if !extent.is_empty() {
            self.plan.segments.push(Segment {
                from: SegmentSource::Stored(extent),
                group,
                to,
                len: extent.len,
                selection: None,
                transform: None,
                cast: None,
            });
        }
        self.plan.places.extend(run.iter().map(|wanted| {
            let distance = wanted.extent().offset - extent.offset;
            wanted.place(group, to.saturating_add(distance), false, self.terms.casts)
        }));
    }

    /// Places entries that cannot lie as they do in the shard: changed, gathered, inflated, inline.
    ///
    /// Plain views of one decoded record share it, as do equal gathered views.
    pub(super) fn place_alone(&mut self, alone: &[Wanted<'_>]) -> Result<(), Error> {
        let mut placed: HashMap<PlaceKey<'_>, (usize, u64)> = HashMap::new();
        for wanted in alone {
            let (view, entry) = (wanted.entry.view(), wanted.entry);
            let alignment = self.terms.alignment(wanted);
            let gathers = self.terms.gathers(wanted);
            let Some(arrival) = self.arrival(wanted)? else {
                continue;
            };
            let residue = arrival.start.wrapping_neg() % alignment;
            let is_own = gathers || arrival.cast.is_some();
            let shared = match is_own {
                true => (
                    view.record,
                    view.offset,
                    Some((entry.layout(), entry.dtype())),
                ),
                false => (view.record, residue, None),
            };
            let can_share = arrival.transform.is_none() || is_own;
            let known = placed.get(&shared).filter(|_| can_share);
            let start = arrival.start;
            let (group, to) = match known {
                Some(&place) => place,
                None => {
                    let place @ (group, to) =
                        self.take(arrival.len, residue, alignment.max(SMALL_ALIGNMENT));
                    self.add(arrival, group, to);
                    if can_share {
                        placed.insert(shared, place);
                    }
                    place
                }
            };
            let place = wanted.place(group, to.saturating_add(start), gathers, self.terms.casts);
            self.plan.places.push(place);
        }
        Ok(())
    }

    /// Gives one entry a group with exactly its bytes.
    pub(super) fn place_exact(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let Some(arrival) = self.arrival(wanted)? else {
            return Ok(());
        };
        self.start();
        let place = wanted.place(self.plan.groups.len() - 1, 0, true, self.terms.casts);
        if let Some(group) = self.plan.groups.last_mut() {
            group.bytes = arrival.len;
            group.entry = Some(place.entry);
            if let (SegmentSource::Stored(extent), None, None) =
                (arrival.from, &arrival.selection, arrival.cast)
            {
                group.page_offset = (extent.offset % DIRECT_ALIGNMENT) as usize;
            }
        }
        self.add(arrival, place.group, 0);
        self.plan.places.push(place);
        Ok(())
    }

    /// Where the bytes of an entry come from and how they change; `None` if it has none.
    fn arrival(&self, wanted: &Wanted<'_>) -> Result<Option<Arrival>, Error> {
        let entry = wanted.entry;
        let (extent, view) = (wanted.extent(), entry.view());
        let (from, start, whole) = match &self.terms.catalog.record(entry).source {
            Source::Stored(_) => (SegmentSource::Stored(extent), 0, extent.len),
            Source::Deflated { extent, len } => {
                let (extent, len) = (*extent, *len);
                (SegmentSource::Deflated { extent, len }, view.offset, len)
            }
            Source::Inline { bytes, .. } => {
                let inline = SegmentSource::Inline(view.record);
                (inline, view.offset, bytes.len() as u64)
            }
            _ => return Ok(None),
        };
        let transform = Transform::of(entry);
        let cast = wanted.cast(self.terms.casts);
        let cast_len = |len| cast.map_or(len, |cast| cast.converted_len(len));
        if self.terms.gathers(wanted) {
            let selection = Selection::of(entry.layout(), entry.dtype(), start);
            let selection = selection.ok_or_else(|| {
                let found = format!("strided elements of {} are parts of bytes", entry.dtype());
                Error::new(ErrorKind::Unsupported, found)
                    .with_tensor(entry.name())
                    .with_remedy("load it with its strides, into groups of several tensors")
            })?;
            let len = entry.byte_len();
            return Ok(Some(Arrival {
                from,
                selection: Some(selection),
                transform: transform.map(|transform| Transform { len, ..transform }),
                cast,
                len: cast_len(len),
                start: 0,
            }));
        }
        let span = entry.span_bytes();
        let is_alone = self.terms.rules.exact || cast.is_some();
        let is_part = is_alone && (start > 0 || span < whole);
        Ok(Some(match is_part {
            true => Arrival {
                from,
                selection: Some(Selection::run(start, span)),
                transform,
                cast,
                len: cast_len(span),
                start: 0,
            },
            false => Arrival {
                from,
                selection: None,
                transform: transform.map(|transform| Transform {
                    from: start,
                    ..transform
                }),
                cast,
                len: cast_len(whole),
                start,
            },
        }))
    }

    /// Adds the segments of an arrival.
    fn add(&mut self, arrival: Arrival, group: usize, to: u64) {
        let Arrival {
            from,
            selection,
            transform,
            cast,
            len,
            ..
        } = arrival;
        if len == 0 {
            return;
        }
        let (SegmentSource::Stored(extent), Some(selection)) = (from, &selection) else {
            self.plan.segments.push(Segment {
                from,
                group,
                to,
                len,
                selection,
                transform,
                cast,
            });
            return;
        };
        // Runs that are far apart are read separately.
        let max_gap = self.terms.options.merge_gap_bytes;
        let mut to = to;
        for piece in selection.pieces(max_gap) {
            let len = piece.byte_len();
            let arriving = cast.map_or(len, |cast| cast.converted_len(len));
            let offset = extent.offset + piece.start;
            let piece = Selection { start: 0, ..piece };
            let from = Extent::new(extent.shard, offset, piece.span_bytes());
            let transform = transform.map(|transform| Transform { len, ..transform });
            self.plan.segments.push(Segment {
                from: SegmentSource::Stored(from),
                group,
                to,
                len: arriving,
                selection: (!piece.dims.is_empty()).then_some(piece),
                transform,
                cast,
            });
            to += arriving;
        }
    }

    /// Pads the group to whole elements and cache lines.
    pub(super) fn round_up(&mut self) {
        if let Some(group) = self.plan.groups.last_mut() {
            let unit = SMALL_ALIGNMENT.max(self.terms.rules.tensor_alignment as u64);
            group.bytes = group
                .bytes
                .checked_next_multiple_of(unit)
                .unwrap_or(u64::MAX);
        }
    }
}
