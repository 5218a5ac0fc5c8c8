//! Equal keys of a dict, as Python compares them.

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::pickle::{Arena, Id, Node};
use crate::tensors::objects::Objects;

use super::Walk;

/// The most items of a tuple that are compared; shared tuples can expand without bound.
const MAX_KEY_ITEMS: usize = 16;

/// # Equal keys
impl<'a> Walk<'a> {
    /// The keys and values of a dict; of equal keys the last value counts, in the first's place.
    ///
    /// Items that are looked at but not visited later count as steps.
    pub(super) fn distinct(&mut self, dict: Id) -> Cow<'a, [Id]> {
        let pairs = self.objects.arena.pairs(dict).unwrap_or(&[]);
        if pairs.len() <= 2 {
            return Cow::Borrowed(pairs);
        }
        // Positions of keys in what is kept; the keys are not held a second time.
        let mut seen: HashTable<u32> = HashTable::with_capacity(pairs.len() / 2);
        let hasher = DefaultHashBuilder::default();
        let mut kept: Option<Vec<Id>> = None;
        let (mut key_bytes, mut dropped) = (0, 0);
        for (number, pair) in pairs.chunks_exact(2).enumerate() {
            let key = Key::of(&self.objects, pair[0]);
            key_bytes += key.byte_len();
            let at = kept.as_ref().map_or(2 * number, Vec::len);
            let hash = hasher.hash_one(&key);
            let is_equal = |&other: &u32| {
                let kept = kept.as_deref().unwrap_or(pairs);
                Key::of(&self.objects, kept[other as usize]) == key
            };
            // The table never grows, so no key is hashed twice.
            match seen.entry(hash, is_equal, |_| hash) {
                Entry::Occupied(before) => {
                    dropped += 1;
                    let kept = kept.get_or_insert_with(|| pairs[..2 * number].to_vec());
                    kept[*before.get() as usize + 1] = pair[1];
                }
                Entry::Vacant(free) => {
                    // An arena has fewer members than a `u32` counts.
                    free.insert(at as u32);
                    if let Some(kept) = &mut kept {
                        kept.extend_from_slice(pair);
                    }
                }
            }
        }
        self.spend(dropped);
        self.spend_bytes(key_bytes);
        kept.map_or(Cow::Borrowed(pairs), Cow::Owned)
    }
}

/// A key by what Python compares: `1`, `1.0` and `True` are one key, `'1'` and `b'1'` are two,
/// and a NaN equals itself alone.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Int(i64),
    /// Beyond `i64`, in the two forms that pickles have.
    BigInt(&'a [u8]),
    BigText(&'a [u8]),
    Float(u64),
    Tuple(Vec<Key<'a>>),
    /// By identity.
    Object(Id),
}

impl<'a> Key<'a> {
    fn of(objects: &Objects<'a>, id: Id) -> Self {
        Self::within(objects, id, &mut { MAX_KEY_ITEMS })
    }

    fn within(objects: &Objects<'a>, id: Id, items_left: &mut usize) -> Self {
        let (arena, pickle): (&'a Arena, _) = (objects.arena, objects.pickle);
        match arena.node(id) {
            Node::Text(span) | Node::Str8(span) => Key::Text(arena.bytes(pickle, span)),
            Node::Bytes(span) => Key::Bytes(arena.bytes(pickle, span)),
            Node::Int(value) => Key::Int(value),
            Node::Bool(value) => Key::Int(i64::from(value)),
            Node::BigInt(span) => Key::BigInt(arena.bytes(pickle, span)),
            Node::BigText(span) => Key::BigText(arena.bytes(pickle, span)),
            Node::Float(value) if value.is_nan() => Key::Object(id),
            // Whole numbers within `i64` are exact there.
            Node::Float(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => {
                Key::Int(value as i64)
            }
            Node::Float(value) => Key::Float(value.to_bits()),
            Node::Tuple { start, len } if len as usize <= *items_left => {
                *items_left -= len as usize;
                let items = arena.members(start, len).iter();
                Key::Tuple(
                    items
                        .map(|&item| Key::within(objects, item, items_left))
                        .collect(),
                )
            }
            _ => Key::Object(id),
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Key::Text(bytes) | Key::Bytes(bytes) | Key::BigInt(bytes) | Key::BigText(bytes) => {
                bytes.len()
            }
            Key::Tuple(items) => 64 * items.len() + items.iter().map(Key::byte_len).sum::<usize>(),
            _ => 0,
        }
    }
}
