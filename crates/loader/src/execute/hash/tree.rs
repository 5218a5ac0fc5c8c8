//! BLAKE3 of bytes that come in any order.
//!
//! BLAKE3 hashes leaves of 1,024 bytes and joins them in a binary tree. A run of leaves whose
//! number is a power of two, and that begins at a multiple of it, is a subtree with a value of its
//! own, whatever is around it; so each thread hashes the subtrees within its bytes. Leaves that
//! two threads have parts of are put together first.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, max_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use blake3::{CHUNK_LEN, Hasher};

const LEAF_BYTES: u64 = CHUNK_LEN as u64;

/// The hash of `len` bytes, as far as it is computed.
pub(super) struct Blake3Tree {
    len: u64,
    state: Mutex<Received>,
}

#[derive(Default)]
struct Received {
    /// The hash, where all bytes came at once.
    whole: Option<[u8; 32]>,
    /// Subtrees, by their first byte and their length.
    subtrees: HashMap<(u64, u64), ChainingValue>,
    /// Leaves of which a part came, by their first byte.
    leaves: HashMap<u64, Leaf>,
}

/// A leaf of which a part came.
struct Leaf {
    bytes: Box<[u8; CHUNK_LEN]>,
    filled: usize,
}

impl Blake3Tree {
    pub(super) fn new(len: u64) -> Self {
        Self {
            len,
            state: Mutex::default(),
        }
    }

    /// Adds bytes from `offset` on.
    pub(super) fn add(&self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if bytes.len() as u64 == self.len {
            let whole = blake3::hash(bytes).into();
            self.lock().whole = Some(whole);
            return;
        }
        let end = offset + bytes.len() as u64;
        let first_leaf = offset.next_multiple_of(LEAF_BYTES).min(end);
        // The last leaf of all may be short.
        let last_leaf = match end == self.len {
            true => end,
            false => end - end % LEAF_BYTES,
        };
        let last_leaf = last_leaf.max(first_leaf);
        let part = |from: u64, to: u64| &bytes[(from - offset) as usize..(to - offset) as usize];
        self.add_to_leaf(offset, part(offset, first_leaf));
        self.add_leaves(first_leaf, part(first_leaf, last_leaf));
        self.add_to_leaf(last_leaf, part(last_leaf, end));
    }

    /// The hash, once all bytes came.
    pub(super) fn finish(self) -> [u8; 32] {
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match state.whole {
            Some(whole) => whole,
            None if self.len == 0 => blake3::hash(&[]).into(),
            None => state.root(self.len),
        }
    }

    /// Adds a part of one leaf, and hashes the leaf once it is complete.
    fn add_to_leaf(&self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let within = (offset % LEAF_BYTES) as usize;
        let start = offset - within as u64;
        let len = (self.len - start).min(LEAF_BYTES) as usize;
        let mut state = self.lock();
        let leaf = state.leaves.entry(start).or_insert_with(|| Leaf {
            bytes: Box::new([0; CHUNK_LEN]),
            filled: 0,
        });
        leaf.bytes[within..within + bytes.len()].copy_from_slice(bytes);
        leaf.filled += bytes.len();
        if leaf.filled == len
            && let Some(leaf) = state.leaves.remove(&start)
        {
            drop(state);
            match len as u64 == self.len {
                // The only leaf there is.
                true => self.lock().whole = Some(blake3::hash(&leaf.bytes[..len]).into()),
                false => self.add_leaves(start, &leaf.bytes[..len]),
            }
        }
    }

    /// Adds whole leaves, as the largest subtrees that they make.
    fn add_leaves(&self, mut offset: u64, mut bytes: &[u8]) {
        let mut subtrees = Vec::new();
        while !bytes.is_empty() {
            let len = subtree_len(offset, bytes.len() as u64, self.len);
            let (subtree, rest) = bytes.split_at(len as usize);
            let mut hasher = Hasher::new();
            let value = hasher.set_input_offset(offset).update(subtree);
            subtrees.push(((offset, len), value.finalize_non_root()));
            offset += len;
            bytes = rest;
        }
        self.lock().subtrees.extend(subtrees);
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    /// Joins all subtrees.
    fn root(&self, len: u64) -> [u8; 32] {
        let left = left_subtree_len(len);
        let (one, other) = (self.value(0, left), self.value(left, len - left));
        merge_subtrees_root(&one, &other, Mode::Hash).into()
    }

    /// The value of a subtree, joined of its own where it was not hashed at once.
    fn value(&self, offset: u64, len: u64) -> ChainingValue {
        if let Some(value) = self.subtrees.get(&(offset, len)) {
            return *value;
        }
        if len <= LEAF_BYTES {
            // Not reached while every byte comes once; another hash is no match.
            return ChainingValue::default();
        }
        let left = left_subtree_len(len);
        let one = self.value(offset, left);
        let other = self.value(offset + left, len - left);
        merge_subtrees_non_root(&one, &other, Mode::Hash)
    }
}

/// The largest subtree at `offset` of a tree of `total` bytes within the next `available` ones.
fn subtree_len(offset: u64, available: u64, total: u64) -> u64 {
    let most = max_subtree_len(offset).unwrap_or(u64::MAX);
    if offset + available == total && available <= most {
        return available;
    }
    let leaves = available / LEAF_BYTES;
    match leaves {
        // The last leaf of all, which is short.
        0 => available,
        _ => (LEAF_BYTES << leaves.ilog2()).min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 7 % 251) as u8).collect()
    }

    /// The hash of bytes that come in pieces that end at `cuts`, the last piece first.
    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> [u8; 32] {
        let tree = Blake3Tree::new(bytes.len() as u64);
        let mut end = bytes.len();
        for &cut in cuts.iter().rev().filter(|cut| **cut < bytes.len()) {
            tree.add(cut as u64, &bytes[cut..end]);
            end = cut;
        }
        tree.add(0, &bytes[..end]);
        tree.finish()
    }

    #[test]
    fn any_pieces_in_any_order_have_the_hash_of_the_whole() {
        let cuts: [&[usize]; 7] = [
            &[],
            &[1],
            &[1023, 1024, 1025],
            &[512, 700, 900, 5000],
            &[1024, 2048, 4096],
            &[3 * 1024, 7 * 1024 + 1, 7 * 1024 + 2, 16 * 1024],
            &[100, 101, 2000, 9999, 10_000, 60_000, 65_536],
        ];
        for len in [
            0, 1, 1023, 1024, 1025, 2048, 2049, 3000, 4096, 10_240, 65_537, 131_072, 200_001,
        ] {
            let bytes = bytes(len);
            let expected: [u8; 32] = blake3::hash(&bytes).into();
            for cuts in cuts {
                assert_eq!(in_pieces(&bytes, cuts), expected, "{len} {cuts:?}");
            }
            let every_byte: Vec<usize> = (1..len.min(5000)).collect();
            assert_eq!(in_pieces(&bytes, &every_byte), expected, "{len}");
        }
    }
}
