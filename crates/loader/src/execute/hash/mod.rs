//! Hashing bytes while they are read.
//!
//! The plain algorithm: read each range from its beginning to its end and hash it.
//! The departures from it:
//!
//! 1. Chunks are hashed where they are read, while the processor still has them in its cache, so
//!    that no byte is read twice (`cover` says which chunk hashes which bytes).
//! 2. BLAKE3 is a tree: its parts are hashed in any order and joined at the end (`tree`).
//! 3. SHA-256 and SHA-1 are chains: a chunk that is read before its turn waits in a window of
//!    bounded memory, and whoever reads the chunk whose turn it is hashes those behind it too
//!    (`in_order`).

mod chain;
mod cover;
mod in_order;
mod tree;

use std::collections::HashMap;

use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Extent, ShardId};

use super::failure::{Failure, with_place};
use crate::hash::{Digest, HashAlgorithm, HashRange};
use crate::report::Hashed;
use crate::shard::Shard;
use chain::Chain;
use in_order::Backlog;
use tree::Blake3Tree;

pub(super) use cover::cover;

/// The hashes of a load, as far as they are computed.
pub(super) struct Hashes<'a> {
    ranges: &'a [HashRange],
    progress: Vec<InProgress>,
    /// The ranges of each shard, by position.
    of_shards: HashMap<ShardId, ShardRanges>,
    backlog: Backlog,
}

/// A hash that is not complete.
enum InProgress {
    Tree(Blake3Tree),
    Chain(Chain),
}

/// The ranges of one shard.
#[derive(Default)]
struct ShardRanges {
    /// By their first byte.
    sorted: Vec<usize>,
    /// For each of `sorted`, how far it and those before it reach.
    reach: Vec<u64>,
    /// Those that begin with the shard, apart from the others: each chunk may be in them.
    from_start: Vec<usize>,
}

impl<'a> Hashes<'a> {
    /// Hashes of these ranges.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a range that its shard does not have.
    pub(super) fn new(ranges: &'a [HashRange], shards: &[Shard]) -> Result<Self, Error> {
        let mut of_shards: HashMap<ShardId, ShardRanges> = HashMap::new();
        let mut progress = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            let extent = range.extent;
            check_within(extent, shards)?;
            progress.push(InProgress::new(range));
            let of_shard = of_shards.entry(extent.shard).or_default();
            match extent.offset {
                0 => of_shard.from_start.push(index),
                _ => of_shard.sorted.push(index),
            }
        }
        for of_shard in of_shards.values_mut() {
            let extent = |index: &usize| ranges[*index].extent;
            of_shard.sorted.sort_by_key(|index| extent(index).offset);
            let mut reach = 0;
            of_shard.reach = of_shard
                .sorted
                .iter()
                .map(|index| {
                    reach = extent(index).end().max(reach);
                    reach
                })
                .collect();
        }
        Ok(Self {
            ranges,
            progress,
            of_shards,
            backlog: Backlog::default(),
        })
    }

    /// Hashes bytes of a shard; every byte of a range must come exactly once.
    ///
    /// Waits while the window of a chain is full, unless it is the turn of these bytes.
    pub(super) fn add(&self, extent: Extent, bytes: &[u8]) -> Result<(), Failure> {
        for index in self.touching(extent) {
            let range = self.ranges[index].extent;
            let (from, to) = (
                extent.offset.max(range.offset),
                extent.end().min(range.end()),
            );
            let part = &bytes[(from - extent.offset) as usize..(to - extent.offset) as usize];
            match &self.progress[index] {
                InProgress::Tree(tree) => tree.add(from - range.offset, part),
                InProgress::Chain(chain) => {
                    self.backlog.add(chain, from - range.offset, part)?;
                }
            }
        }
        Ok(())
    }

    /// The ranges that have bytes of an extent.
    fn touching(&self, extent: Extent) -> impl Iterator<Item = usize> + '_ {
        let of_shard = self.of_shards.get(&extent.shard);
        let touches = move |index: &usize| {
            let range = self.ranges[*index].extent;
            range.offset < extent.end() && extent.offset < range.end()
        };
        of_shard
            .into_iter()
            .flat_map(move |of_shard| {
                let sorted = &of_shard.sorted;
                let offset = |index: &usize| self.ranges[*index].extent.offset;
                let end = sorted.partition_point(|index| offset(index) < extent.end());
                let start = of_shard
                    .reach
                    .partition_point(|&reach| reach <= extent.offset);
                let near = &sorted[start.min(end)..end];
                of_shard.from_start.iter().chain(near).copied()
            })
            .filter(touches)
    }

    /// Lets nobody wait any more: the load has failed.
    pub(super) fn stop(&self) {
        self.backlog.stop();
    }

    /// The most memory of chunks that waited for their turn, in bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.backlog.peak_bytes()
    }

    /// Whether chunks may have to wait for others.
    pub(super) fn is_ordered(&self) -> bool {
        let is_chain = |part: &InProgress| matches!(part, InProgress::Chain(_));
        self.progress.iter().any(is_chain)
    }

    /// All hashes, in the order of the ranges, once every byte was added.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for the first range of which another hash was expected, with its
    /// shard, its bytes and the tensor in them.
    pub(super) fn finish(self, catalog: &Catalog, shards: &[Shard]) -> Result<Hashed, Error> {
        let mut hashed = Hashed::default();
        for (range, progress) in self.ranges.iter().zip(self.progress) {
            let found = match progress {
                InProgress::Tree(tree) => Digest::new(HashAlgorithm::Blake3, &tree.finish()),
                InProgress::Chain(chain) => chain.finish(),
            };
            // Absent only if a byte was not added, which `cover` rules out.
            let Some(found) = found else {
                let found = "not every byte was hashed";
                return Err(Error::new(ErrorKind::Storage, found).with_extent(range.extent));
            };
            if let Some(expected) = range.expected.filter(|expected| *expected != found) {
                let shard = &shards[range.extent.shard.index()];
                return Err(mismatch(range.extent, expected, found, catalog, shard));
            }
            hashed.bytes += range.extent.len;
            hashed.matched += usize::from(range.expected.is_some());
            hashed.digests.push(found);
        }
        Ok(hashed)
    }
}

impl InProgress {
    fn new(range: &HashRange) -> Self {
        let len = range.extent.len;
        match range.algorithm {
            HashAlgorithm::Blake3 => InProgress::Tree(Blake3Tree::new(len)),
            algorithm => InProgress::Chain(Chain::new(algorithm, len)),
        }
    }
}

fn check_within(extent: Extent, shards: &[Shard]) -> Result<(), Error> {
    let shard = shards.get(extent.shard.index());
    let len = shard.map_or(0, |shard| shard.storage().len());
    let end = extent.offset.checked_add(extent.len);
    if shard.is_some() && end.is_some_and(|end| end <= len) {
        return Ok(());
    }
    let found = format!("a hash of these bytes was asked for, and the file has {len}");
    let error = Error::new(ErrorKind::Misuse, found)
        .with_extent(extent)
        .with_remedy("take hashes that were made of this file");
    Err(match shard {
        Some(shard) => error.with_path(shard.path()),
        None => error,
    })
}

fn mismatch(
    extent: Extent,
    expected: Digest,
    found: Digest,
    catalog: &Catalog,
    shard: &Shard,
) -> Error {
    let algorithm = expected.algorithm();
    let text = format!("expected {algorithm} {expected}, found {found}");
    let error = Error::new(ErrorKind::Malformed, text)
        .with_path(shard.path())
        .with_remedy("fetch the file again from a source that you trust");
    let is_whole = extent.offset == 0 && extent.len == shard.storage().len();
    match is_whole {
        true => error,
        false => with_place(error, catalog, extent),
    }
}
