//! What a load hashes, so that what it hands out is what is expected.

use std::collections::{BTreeMap, BTreeSet};

use tensorlift_loader::{Control, HashRange, LoadOptions, Plan};
use tensorlift_tensor_meta::{Entry, Error, ErrorKind, Result, ShardId};

use super::check::differing_tensors;
use super::manifest::decoded_digest;
use super::{Expected, ExpectedFile};
use crate::Checkpoint;

/// What is hashed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashUnit {
    /// Files that are loaded whole, and otherwise tensors.
    File,
    /// Tensors, which are handed on one by one.
    Tensor,
}

impl Expected {
    /// The ranges that a load by this plan hashes.
    ///
    /// Of files that are loaded whole, all bytes, with headers and whatever else is in them. Of
    /// files of which a part is loaded, the tensors of that part, if each of them is known as it
    /// is; otherwise all bytes too.
    pub(crate) fn ranges(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        unit: HashUnit,
    ) -> Result<Vec<HashRange>> {
        let mut loaded: BTreeMap<ShardId, Vec<&Entry>> = BTreeMap::new();
        for place in &plan.places {
            let entry = &checkpoint.catalog().entries()[place.entry];
            loaded.entry(entry.extent().shard).or_default().push(entry);
        }
        let mut ranges = Vec::new();
        for (shard, entries) in loaded {
            let Some(known) = self.known(checkpoint, shard)? else {
                continue;
            };
            let is_part = unit == HashUnit::Tensor || entries.len() < known.tensors.len();
            match known.of_tensors(checkpoint, &entries).filter(|_| is_part) {
                Some(of_tensors) => ranges.extend(of_tensors?),
                None => {
                    let len = checkpoint.shards()[shard.index()].storage().len();
                    ranges.extend(known.ranges(shard, len));
                }
            }
        }
        Ok(ranges)
    }

    /// The ranges of all files that a plan of another catalog reads.
    pub(crate) fn ranges_of_files(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
    ) -> Result<Vec<HashRange>> {
        let extents = plan
            .segments
            .iter()
            .filter_map(tensorlift_loader::Segment::extent);
        let shards: BTreeSet<ShardId> = extents.map(|extent| extent.shard).collect();
        let mut ranges = Vec::new();
        for shard in shards {
            if let Some(known) = self.known(checkpoint, shard)? {
                let len = checkpoint.shards()[shard.index()].storage().len();
                ranges.extend(known.ranges(shard, len));
            }
        }
        Ok(ranges)
    }

    /// What is known of a shard; an error if its length alone shows that it is another one, and
    /// if something must be known and is not.
    fn known(&self, checkpoint: &Checkpoint, shard: ShardId) -> Result<Option<&ExpectedFile>> {
        let file = &checkpoint.shards()[shard.index()];
        match self.of(file.path()) {
            Some(known) => {
                let checked = known.check_len(file.storage().len());
                checked.map_err(|error| error.with_path(file.path()))?;
                Ok(Some(known))
            }
            None if self.is_complete => {
                let found = format!("{} does not have this file", self.source);
                Err(Error::new(ErrorKind::Malformed, found)
                    .with_path(file.path())
                    .with_remedy("take a list that was made for this checkpoint"))
            }
            None => Ok(None),
        }
    }

    /// Names the tensor that differs in a file whose hash is not as expected, where that is known.
    pub(crate) fn with_tensor(
        &self,
        error: Error,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        control: &Control,
    ) -> Error {
        let is_at_fault = |shard: &&tensorlift_loader::Shard| Some(shard.path()) == error.path();
        let shard = checkpoint.shards().iter().find(is_at_fault);
        let known = shard.and_then(|shard| Some((shard, self.of(shard.path())?)));
        let Some((shard, known)) = known.filter(|_| error.kind() == ErrorKind::Malformed) else {
            return error;
        };
        // What it finds is an addition: a failure of its own would hide the one that counts.
        let differing = differing_tensors(shard, known, options, control);
        match differing.unwrap_or_default().into_iter().next() {
            Some(tensor) => error.with_tensor(tensor),
            None => error,
        }
    }

    /// Files of the checkpoint of which a load cannot tell whether they are right, and why.
    #[must_use]
    pub fn unverifiable<'c>(
        &'c self,
        checkpoint: &'c Checkpoint,
    ) -> Vec<(&'c std::path::Path, String)> {
        let why = |path| match self.of(path) {
            None => Some(format!("{} says nothing of it", self.source)),
            Some(known) => known.unverifiable.clone(),
        };
        let files = checkpoint.files();
        files.filter_map(|path| Some((path, why(path)?))).collect()
    }
}

impl ExpectedFile {
    /// The hashes of these tensors, if each is known as the file describes it.
    fn of_tensors(
        &self,
        checkpoint: &Checkpoint,
        entries: &[&Entry],
    ) -> Option<Result<Vec<HashRange>>> {
        let mut by_offset: BTreeMap<u64, Vec<&super::ManifestTensor>> = BTreeMap::new();
        for tensor in &self.tensors {
            by_offset.entry(tensor.offset).or_default().push(tensor);
        }
        let mut ranges = Vec::with_capacity(entries.len());
        for entry in entries {
            let extent = entry.extent();
            let candidates = by_offset.get(&extent.offset)?;
            let describes = |tensor: &&&super::ManifestTensor| tensor.describes(checkpoint, entry);
            let expected = candidates.iter().find(describes)?.digest()?;
            if !extent.is_empty() {
                ranges.push(HashRange::expect(extent, expected));
                continue;
            }
            let found = decoded_digest(checkpoint, entry);
            if found != expected {
                let found = format!("expected BLAKE3 {expected}, found {found}");
                return Some(Err(Error::new(ErrorKind::Malformed, found)
                    .with_path(checkpoint.shards()[extent.shard.index()].path())
                    .with_tensor(entry.name())
                    .with_remedy("fetch the file again from a source that you trust")));
            }
        }
        ranges.sort_by_key(|range| range.extent);
        ranges.dedup();
        Some(Ok(ranges))
    }

    fn check_len(&self, len: u64) -> Result<()> {
        let expected = self.bytes.unwrap_or(len);
        if expected == len && (self.hashes.is_empty() || self.is_whole(len)) {
            return Ok(());
        }
        let found = format!("expected {expected} bytes, found {len}");
        Err(Error::new(ErrorKind::Malformed, found)
            .with_remedy("fetch the file again from a source that you trust"))
    }
}
