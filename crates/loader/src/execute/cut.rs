//! Cutting a plan into chunks.

use tensorlift_device::{Destination, Staging};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Extent, ShardId, Source};

use super::chunk::{Chunk, ChunkPart, ChunkSource, Target};
use super::hash::cover;
use crate::options::{LoadOptions, Reader};
use crate::plan::{Plan, Segment, SegmentSource};

/// Bytes of a mapping that one chunk populates: enough to hide the cost of the call, and few enough
/// for threads to end together.
const POPULATE_BYTES: usize = 8 << 20;
/// The smallest chunk if each read is split into several requests.
const URING_CHUNK_BYTES: usize = 16 << 20;
/// The smallest chunk: below it, calls cost more than bytes.
const MIN_CHUNK_BYTES: usize = 4096;
/// Chunks end at multiples of the largest element, so that each can be converted alone.
const ELEMENT_BYTES: u64 = 16;
/// Segments up to this length are read together with their neighbours and then copied: the system
/// call costs more than the copy.
const SMALL_BYTES: u64 = 128 << 10;
/// The most bytes of small neighbours that are read together; they stay in the processor's cache
/// until they are copied.
const TOGETHER_BYTES: u64 = 1 << 20;
/// Reading a page or less of unwanted bytes costs nothing measurable.
const FREE_GAP_BYTES: u64 = 4096;

/// Cuts a plan into chunks, in the order in which they run.
///
/// Every part in host memory owns its slice of it, so threads never share one.
///
/// # Errors
/// [`ErrorKind::Misuse`] if the segments do not fit the destinations;
/// [`ErrorKind::LimitExceeded`] if there is no memory for the list.
pub(super) fn cut<'a>(
    plan: &'a Plan,
    catalog: &'a Catalog,
    destinations: Vec<Destination<'a>>,
    options: &LoadOptions,
    shards_at_once: usize,
) -> Result<Vec<Chunk<'a>>, Error> {
    let mut chunks = Vec::new();
    let mut segments = plan.segments.iter().peekable();
    for (index, destination) in destinations.into_iter().enumerate() {
        let mut memory = GroupRest::new(destination, plan.groups[index].is_mapped());
        let chunk_bytes = memory.chunk_bytes(options) as u64;
        while let Some(segment) = segments.next_if(|segment| segment.group == index) {
            cut_segment(segment, catalog, &mut memory, chunk_bytes, &mut chunks)?;
        }
    }
    let mut chunks = join(chunks, options);
    if !options.hashes.is_empty() {
        let chunk_bytes = options.chunk_bytes.max(MIN_CHUNK_BYTES) as u64;
        chunks = cover(chunks, &options.hashes, chunk_bytes);
    }
    Ok(in_order(chunks, options, shards_at_once as u64))
}

/// Adds the chunks of one segment.
fn cut_segment<'a>(
    segment: &'a Segment,
    catalog: &'a Catalog,
    memory: &mut GroupRest<'a>,
    chunk_bytes: u64,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<(), Error> {
    let whole = source(segment, catalog);
    let total = source_bytes(&whole);
    let mut at = 0;
    while at < total {
        let len = chunk_len(segment, &whole, at, total, chunk_bytes);
        let (from, to) = (arrived(segment, at), arrived(segment, at + len));
        let fits = to <= segment.len && !(at + len == total && to != segment.len);
        let target = fits
            .then(|| memory.take(segment.to + from, to - from))
            .flatten();
        let target = target.ok_or_else(|| {
            Error::new(
                ErrorKind::Misuse,
                "a segment of the plan does not fit its catalog or its group",
            )
            .with_remedy("execute the plan with the catalog and the memory it was made for")
        })?;
        let source = match whole {
            ChunkSource::Stored(Extent { shard, offset, .. }) => {
                ChunkSource::Stored(Extent::new(shard, offset + at, len))
            }
            decoded => decoded,
        };
        let part = ChunkPart {
            segment,
            at,
            len,
            target,
        };
        chunks.try_reserve(1).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "no memory for the list of chunks")
                .with_remedy("free memory, or load with larger chunks")
        })?;
        chunks.push(Chunk {
            source,
            parts: vec![part],
            hashed: None,
        });
        at += len;
    }
    Ok(())
}

fn source<'a>(segment: &Segment, catalog: &'a Catalog) -> ChunkSource<'a> {
    match segment.from {
        SegmentSource::Stored(extent) => ChunkSource::Stored(extent),
        SegmentSource::Deflated { extent, len } => ChunkSource::Deflated { extent, len },
        SegmentSource::Inline(record) => match catalog.records().get(record.index()) {
            Some(record) => match &record.source {
                Source::Inline { bytes, .. } => ChunkSource::Inline(bytes),
                _ => ChunkSource::Inline(&[]),
            },
            None => ChunkSource::Inline(&[]),
        },
    }
}

fn source_bytes(source: &ChunkSource<'_>) -> u64 {
    match source {
        ChunkSource::Stored(extent) => extent.len,
        ChunkSource::Deflated { len, .. } => *len,
        ChunkSource::Inline(bytes) => bytes.len() as u64,
    }
}

/// How many bytes have arrived once the source was read up to `at`.
pub(super) fn arrived(segment: &Segment, at: u64) -> u64 {
    let selected = match &segment.selection {
        None => at,
        Some(selection) if selection.is_ordered() => selection.bytes_before(at),
        // Read whole, so `at` is the beginning or the end.
        Some(selection) if at > 0 => selection.byte_len(),
        Some(_) => 0,
    };
    segment
        .cast
        .map_or(selected, |cast| cast.converted_len(selected))
}

/// The length of the chunk that begins `at` bytes into a segment's source.
///
/// Verbatim bytes are cut at multiples of the chunk size in their group, so that no two threads
/// touch one huge page first: each would fill one with zeros, and one is thrown away.
/// Selections are cut near multiples in the file, so that several of one matrix share reads.
fn chunk_len(segment: &Segment, source: &ChunkSource<'_>, at: u64, total: u64, chunk: u64) -> u64 {
    let left = total - at;
    let ChunkSource::Stored(extent) = source else {
        return left;
    };
    match (&segment.selection, &segment.transform) {
        (None, None) if segment.cast.is_none() => left.min(chunk - (segment.to + at) % chunk),
        (None, _) => left.min(chunk),
        (Some(selection), _) if selection.is_ordered() => {
            let to_boundary = chunk - (extent.offset + at) % chunk;
            let whole = to_boundary - to_boundary % ELEMENT_BYTES;
            left.min(if whole > 0 { whole } else { chunk })
        }
        (Some(_), _) => left,
    }
}

/// The rest of a group's memory, handed out from the front.
enum GroupRest<'a> {
    Host { rest: &'a mut [u8], position: u64 },
    Staged(&'a dyn Staging),
    Mapped,
}

impl<'a> GroupRest<'a> {
    fn new(destination: Destination<'a>, mapped: bool) -> Self {
        match destination {
            _ if mapped => GroupRest::Mapped,
            Destination::Host(rest) => GroupRest::Host { rest, position: 0 },
            Destination::Staged(staging) => GroupRest::Staged(staging),
        }
    }

    fn chunk_bytes(&self, options: &LoadOptions) -> usize {
        let most = match self {
            GroupRest::Host { .. } => usize::MAX,
            GroupRest::Staged(staging) => staging.slot_bytes(),
            GroupRest::Mapped => return POPULATE_BYTES,
        };
        let least = match options.reader {
            Reader::Uring => URING_CHUNK_BYTES,
            _ => MIN_CHUNK_BYTES,
        };
        let unit = ELEMENT_BYTES as usize;
        (options.chunk_bytes.max(least).min(most) / unit * unit).max(unit)
    }

    /// The `len` bytes at `to`, if they exist and were not handed out yet; segments are in the
    /// order of their places.
    fn take(&mut self, to: u64, len: u64) -> Option<Target<'a>> {
        let (start, len) = (usize::try_from(to).ok()?, usize::try_from(len).ok()?);
        match self {
            GroupRest::Host { rest, position } => {
                let gap = usize::try_from(to.checked_sub(*position)?).ok()?;
                if gap.checked_add(len)? > rest.len() {
                    return None;
                }
                let (_, from) = std::mem::take(rest).split_at_mut(gap);
                let (taken, left) = from.split_at_mut(len);
                *rest = left;
                *position = to + len as u64;
                Some(Target::Host(taken))
            }
            GroupRest::Staged(staging) => Some(Target::Staged {
                staging: *staging,
                to: start,
                len,
            }),
            GroupRest::Mapped => Some(Target::Mapping),
        }
    }
}

/// Joins chunks that are read together: small neighbours, and chunks of the same bytes.
fn join<'a>(mut chunks: Vec<Chunk<'a>>, options: &LoadOptions) -> Vec<Chunk<'a>> {
    let joins = |one: &Chunk<'_>, next: &Chunk<'_>| reads_together(one, next, options);
    chunks.sort_by_key(|chunk| (chunk.source.extent(), is_decoded(&chunk.source)));
    let mut joined: Vec<Chunk<'a>> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match joined.last_mut() {
            Some(last) if joins(last, &chunk) => {
                if let (ChunkSource::Stored(one), ChunkSource::Stored(next)) =
                    (&mut last.source, chunk.source)
                {
                    one.len = one.end().max(next.end()) - one.offset;
                }
                last.parts.extend(chunk.parts);
            }
            _ => joined.push(chunk),
        }
    }
    joined
}

fn is_decoded(source: &ChunkSource<'_>) -> bool {
    !matches!(source, ChunkSource::Stored(_))
}

/// Whether `next`, which begins no earlier than `one`, is worth reading with it.
fn reads_together(one: &Chunk<'_>, next: &Chunk<'_>, options: &LoadOptions) -> bool {
    let is_mapped = |chunk: &Chunk<'_>| matches!(chunk.parts[0].target, Target::Mapping);
    let (ChunkSource::Stored(first), ChunkSource::Stored(second)) = (one.source, next.source)
    else {
        // A record that several entries look at is decoded once.
        return one.source == next.source && is_decoded(&one.source);
    };
    if first.shard != second.shard || is_mapped(one) || is_mapped(next) {
        return false;
    }
    let together = first.end().max(second.end()) - first.offset;
    let chunk_bytes = options.chunk_bytes.max(MIN_CHUNK_BYTES) as u64;
    if second.offset < first.end() {
        // Cuts of selections differ by less than an element.
        return together <= chunk_bytes.max(first.len) + ELEMENT_BYTES;
    }
    let gap = second.offset - first.end();
    let useful = first.len.min(second.len);
    let is_small = second.len <= SMALL_BYTES && (one.parts.len() > 1 || first.len <= SMALL_BYTES);
    let pays = gap <= options.merge_gap_bytes && (gap <= FREE_GAP_BYTES || gap <= useful);
    is_small && pays && together <= TOGETHER_BYTES.min(chunk_bytes)
}

/// Sorts chunks in the order in which they run: a few shards at once, alternating chunk by chunk,
/// each shard from its beginning.
fn in_order<'a>(
    mut chunks: Vec<Chunk<'a>>,
    options: &LoadOptions,
    shards_at_once: u64,
) -> Vec<Chunk<'a>> {
    let step = options.chunk_bytes.max(MIN_CHUNK_BYTES) as u64;
    let order = |chunk: &Chunk<'_>| match chunk.source.extent() {
        Some(Extent {
            shard: ShardId(shard),
            offset,
            ..
        }) => {
            let shard = u64::from(shard);
            let (batch, of_batch) = (shard / shards_at_once, shard % shards_at_once);
            (batch, offset / step, of_batch, offset)
        }
        None => (0, 0, 0, 0),
    };
    chunks.sort_by_key(order);
    chunks
}
