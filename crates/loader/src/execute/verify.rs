//! Checking bytes while they are read: the CRC-32 that an archive declares for each record.
//!
//! Each chunk is summed right after it was read, while it is in the processor's cache;
//! the sums of a record's parts are combined at the end.
//! A record of which only a part was read cannot be checked, and is counted as such.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Extent, RecordId, ShardId, Source};

use crate::plan::{Plan, SegmentSource};
use crate::report::Verified;

/// The checksums of a load's records, as far as they are computed.
pub(super) struct Sums<'a> {
    catalog: &'a Catalog,
    /// Stored records with a checksum, by shard and offset.
    stored: BTreeMap<(ShardId, u64), RecordSum>,
    /// Deflated records with a checksum: their positions in the catalog.
    deflated: HashMap<Extent, usize>,
    parts: Mutex<Vec<RecordPart>>,
}

#[derive(Clone, Copy)]
struct RecordSum {
    index: usize,
    len: u64,
}

/// A part of a record, summed.
struct RecordPart {
    record: usize,
    offset: u64,
    hasher: Hasher,
    len: u64,
}

impl<'a> Sums<'a> {
    /// The records that a plan reads from.
    pub(super) fn new(catalog: &'a Catalog, plan: &Plan) -> Self {
        let (mut stored, mut deflated) = (BTreeMap::new(), HashMap::new());
        for place in &plan.places {
            let entry = &catalog.entries()[place.entry];
            let (record, index) = (catalog.record(entry), entry.view().record.index());
            if record.declared_crc32.is_none() {
                continue;
            }
            match record.source {
                Source::Stored(Extent { shard, offset, len }) => {
                    stored.insert((shard, offset), RecordSum { index, len });
                }
                Source::Deflated { extent, .. } => {
                    deflated.insert(extent, index);
                }
                _ => {}
            }
        }
        Self {
            catalog,
            stored,
            deflated,
            parts: Mutex::default(),
        }
    }

    /// Sums what a chunk of a shard holds of records.
    pub(super) fn add(&self, extent: Extent, bytes: &[u8]) {
        // Records do not overlap, so at most one begins before the chunk and reaches into it.
        let before = self
            .stored
            .range(..(extent.shard, extent.offset))
            .next_back();
        let within = self
            .stored
            .range((extent.shard, extent.offset)..(extent.shard, extent.end()));
        for (&(shard, start), record) in before.into_iter().chain(within) {
            let from = start.max(extent.offset);
            let to = (start + record.len).min(extent.end());
            if shard != extent.shard || from >= to {
                continue;
            }
            let part = &bytes[(from - extent.offset) as usize..(to - extent.offset) as usize];
            self.push(record.index, from - start, part);
        }
    }

    /// Sums a whole record that was inflated.
    pub(super) fn add_inflated(&self, extent: Extent, bytes: &[u8]) {
        if let Some(&index) = self.deflated.get(&extent) {
            self.push(index, 0, bytes);
        }
    }

    fn push(&self, record: usize, offset: u64, bytes: &[u8]) {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        let part = RecordPart {
            record,
            offset,
            hasher,
            len: bytes.len() as u64,
        };
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(part);
    }

    /// Compares all records that were read whole.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for the first that differs.
    pub(super) fn check(self, plan: &Plan) -> Result<Verified, Error> {
        let mut parts = self
            .parts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        // Of parts that begin at one place, the longest first.
        parts.sort_by_key(|part| (part.record, part.offset, std::cmp::Reverse(part.len)));
        let mut verified = Verified::default();
        for parts in parts.chunk_by(|one, other| one.record == other.record) {
            let record = &self.catalog.records()[parts[0].record];
            let (Some(len), Some(declared)) = (record.len(), record.declared_crc32) else {
                continue;
            };
            let mut whole = Hasher::new();
            let mut end = 0;
            for part in parts {
                if part.offset == end {
                    whole.combine(&part.hasher);
                    end += part.len;
                }
            }
            if end != len {
                verified.records_in_part += 1;
                continue;
            }
            let found = whole.finalize();
            if found != declared {
                return Err(mismatch(self.catalog, parts[0].record, declared, found));
            }
            verified.records += 1;
            verified.bytes += len;
        }
        let has_none = |segment: &&crate::plan::Segment| {
            matches!(segment.from, SegmentSource::Stored(_)) && self.stored.is_empty()
        };
        verified.without_sums = plan.segments.iter().any(|segment| has_none(&segment));
        Ok(verified)
    }
}

fn mismatch(catalog: &Catalog, record: usize, declared: u32, found: u32) -> Error {
    let id = |entry: &&Entry| RecordId::index(entry.view().record) == record;
    let text = format!("expected CRC-32 {declared:08x}, found {found:08x}");
    let error = Error::new(ErrorKind::Malformed, text)
        .with_extent(catalog.records()[record].extent())
        .with_remedy("fetch the file again; if that does not help, load without verifying: some versions of PyTorch write wrong checksums");
    match catalog.entries().iter().find(id) {
        Some(entry) => error.with_tensor(entry.name()),
        None => error,
    }
}
