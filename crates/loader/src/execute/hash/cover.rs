//! Which chunk hashes which bytes.

use tensorlift_tensor_meta::{Extent, ShardId};

use crate::execute::chunk::{Chunk, ChunkSource};
use crate::hash::HashRange;

/// Marks for each chunk the bytes that it hashes, and adds chunks that hash what no other reads.
///
/// `chunks` are sorted by what they read. Of bytes that several of them read, the first hashes
/// them, so that each byte is hashed once. Compressed records are not among them: what is read of
/// these depends on their contents, so that their bytes are read apart.
pub(in crate::execute) fn cover<'a>(
    mut chunks: Vec<Chunk<'a>>,
    ranges: &[HashRange],
    chunk_bytes: u64,
) -> Vec<Chunk<'a>> {
    let wanted = union(ranges.iter().map(|range| range.extent).collect());
    let mut covered = Vec::new();
    let mut end = (ShardId::FIRST, 0);
    for chunk in &mut chunks {
        let ChunkSource::Stored(extent) = chunk.source else {
            continue;
        };
        if extent.shard != end.0 {
            end = (extent.shard, 0);
        }
        let from = extent.offset.max(end.1);
        if from < extent.end() {
            let own = Extent::new(extent.shard, from, extent.end() - from);
            chunk.hashed = Some(own);
            covered.push(own);
            end.1 = own.end();
        }
    }
    let mut covered = &covered[..];
    for extent in wanted {
        each_gap(extent, &mut covered, |gap| {
            let mut at = gap.offset;
            while at < gap.end() {
                let len = (chunk_bytes - at % chunk_bytes).min(gap.end() - at);
                let piece = Extent::new(gap.shard, at, len);
                chunks.push(Chunk {
                    source: ChunkSource::Stored(piece),
                    parts: Vec::new(),
                    hashed: Some(piece),
                });
                at += len;
            }
        });
    }
    chunks
}

/// The same bytes as extents that are sorted and apart from each other.
fn union(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| extent.len > 0);
    extents.sort_unstable();
    let mut apart: Vec<Extent> = Vec::new();
    for extent in extents {
        match apart.last_mut() {
            Some(last) if last.shard == extent.shard && extent.offset <= last.end() => {
                last.len = last.end().max(extent.end()) - last.offset;
            }
            _ => apart.push(extent),
        }
    }
    apart
}

/// Calls `take` for what of an extent is not covered; drops what is covered before it.
fn each_gap(extent: Extent, covered: &mut &[Extent], mut take: impl FnMut(Extent)) {
    let mut at = extent.offset;
    let key = |extent: &Extent| (extent.shard, extent.end());
    while let Some(first) = covered.first() {
        if key(first) <= (extent.shard, at) {
            *covered = &covered[1..];
            continue;
        }
        if first.shard != extent.shard || first.offset >= extent.end() {
            break;
        }
        if at < first.offset {
            take(Extent::new(extent.shard, at, first.offset - at));
        }
        at = first.end();
        if at >= extent.end() {
            return;
        }
    }
    if at < extent.end() {
        take(Extent::new(extent.shard, at, extent.end() - at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(shard: u32, offset: u64, len: u64) -> Extent {
        Extent::new(ShardId(shard), offset, len)
    }

    fn chunk(extent: Extent) -> Chunk<'static> {
        Chunk {
            source: ChunkSource::Stored(extent),
            parts: Vec::new(),
            hashed: None,
        }
    }

    fn whole(shard: u32, len: u64) -> HashRange {
        HashRange::new(at(shard, 0, len), crate::hash::HashAlgorithm::Blake3)
    }

    #[test]
    fn every_byte_is_hashed_once() {
        let reads = [
            at(0, 10, 20),
            at(0, 15, 5),
            at(0, 25, 10),
            at(0, 50, 10),
            at(2, 0, 8),
        ];
        let chunks = reads.into_iter().map(chunk).collect();
        let ranges = [whole(2, 20), whole(0, 60), whole(1, 5)];
        let mut hashed: Vec<Extent> = cover(chunks, &ranges, 6)
            .into_iter()
            .filter_map(|chunk| chunk.hashed)
            .collect();
        hashed.sort_unstable();
        for (shard, len) in [(0, 60), (1, 5), (2, 20)] {
            let of_shard = hashed
                .iter()
                .filter(|extent| extent.shard == ShardId(shard));
            let end = of_shard.fold(0, |end, extent| {
                assert_eq!(extent.offset, end);
                extent.end()
            });
            assert_eq!(end, len);
        }
        assert!(
            hashed.contains(&at(0, 6, 4)) && hashed.contains(&at(0, 30, 5)),
            "{hashed:?}"
        );
    }

    #[test]
    fn parts_of_shards_add_no_other_reads() {
        let chunks = vec![chunk(at(0, 10, 20))];
        let range = HashRange::new(at(0, 12, 4), crate::hash::HashAlgorithm::Sha256);
        assert_eq!(cover(chunks, &[range], 6).len(), 1);
    }
}
