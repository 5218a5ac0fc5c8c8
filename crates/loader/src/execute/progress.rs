//! How far a load has come, for the caller that follows it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tensorlift_tensor_meta::Catalog;

use super::chunk::{Chunk, ChunkPart};
use super::cut::arrived;
use crate::control::{Progress, ProgressFn};
use crate::plan::{Place, Plan};

/// What is counted for a [`ProgressFn`]; nothing is where nobody follows the load.
pub(super) struct Tally<'a> {
    tell: &'a ProgressFn,
    bytes_total: u64,
    tensors_total: usize,
    files_total: usize,
    /// For each group, where its tensors end, in order; those without bytes are left out.
    ends: Vec<Vec<u64>>,
    bytes: AtomicU64,
    tensors: AtomicUsize,
    files: AtomicUsize,
}

impl<'a> Tally<'a> {
    /// `files` is the number of shards of which `chunks` read something.
    pub(super) fn new(
        tell: &'a ProgressFn,
        plan: &Plan,
        catalog: &Catalog,
        chunks: &[Chunk<'_>],
        files: usize,
    ) -> Self {
        let mut ends = vec![Vec::new(); plan.groups.len()];
        for place in &plan.places {
            match byte_len(place, catalog) {
                0 => {}
                len => ends[place.group].push(place.offset + len),
            }
        }
        for ends in &mut ends {
            ends.sort_unstable();
            ends.dedup();
        }
        Self {
            tell,
            bytes_total: chunks.iter().map(Chunk::bytes_read).sum(),
            tensors_total: ends.iter().map(Vec::len).sum(),
            files_total: files,
            ends,
            bytes: AtomicU64::new(0),
            tensors: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
        }
    }

    /// The tensors of which a chunk brings the last byte.
    pub(super) fn tensors_ending(&self, chunk: &Chunk<'_>) -> usize {
        chunk.parts.iter().map(|part| self.ending(part)).sum()
    }

    fn ending(&self, part: &ChunkPart<'_>) -> usize {
        let segment = part.segment;
        let [from, to] = [part.at, part.at + part.len].map(|at| segment.to + arrived(segment, at));
        let ends = &self.ends[segment.group];
        ends.partition_point(|&end| end <= to) - ends.partition_point(|&end| end <= from)
    }

    /// Tells the caller of a chunk that was brought to its places.
    pub(super) fn add(&self, bytes: u64, tensors: usize, closed_file: bool) {
        let files = usize::from(closed_file);
        (self.tell)(Progress {
            bytes_done: self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
            bytes_total: self.bytes_total,
            tensors_done: self.tensors.fetch_add(tensors, Ordering::Relaxed) + tensors,
            tensors_total: self.tensors_total,
            files_done: self.files.fetch_add(files, Ordering::Relaxed) + files,
            files_total: self.files_total,
        });
    }
}

/// The bytes from a tensor's first to its last in its group.
fn byte_len(place: &Place, catalog: &Catalog) -> u64 {
    let entry = &catalog.entries()[place.entry];
    match place.row_major {
        true => entry
            .layout()
            .contiguous_bytes(place.dtype)
            .unwrap_or_else(|| entry.byte_len()),
        false => entry.span_bytes(),
    }
}
