//! Entering containers once on each path, and the attributes of objects.

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::catalog::roots::{Form, Root};
use crate::pickle::{Arena, Id, Node};
use crate::tensors::rebuild::Objects;

use super::{Frame, Kind, Leaves, MAX_FRAME_BYTES, Walk};

/// Roots worth noting; deeper ones are parts of a model that nobody would load alone.
const MAX_ROOTS: usize = 10_000;
const MAX_ROOT_BYTES: usize = 1024;
/// Bytes of keys that take about as long as a step.
const STEP_BYTES: usize = 64;

/// # Entering and leaving containers
impl<'a> Walk<'a> {
    pub(super) fn enter_object(&mut self, id: Id, path_len: usize, depth: usize, overlong: bool) {
        let arena = self.objects.arena;
        let Some((object, _)) = arena.as_object(id) else {
            return;
        };
        let object = *object;
        self.enter(id, true, |walk, leaves| {
            // The last pushed is visited first.
            let pairs = Cow::Borrowed(arena.seq(object.dict));
            walk.push(Kind::Pairs, pairs, path_len, depth, overlong, Some(leaves));
            let items = Cow::Borrowed(arena.seq(object.list));
            walk.push(Kind::Items, items, path_len, depth, overlong, None);
            for state in arena.states(&object).rev() {
                walk.push_state(state, true, path_len, depth, overlong);
            }
            let args = arena.tuple_items(object.args).unwrap_or(&[]);
            match args {
                // A traced module is made from the attributes of the module that was traced.
                [state, ..] if is_module(arena, walk.objects.pickle, *state) => {
                    walk.push_state(*state, true, path_len, depth, overlong);
                }
                args => {
                    let args = Cow::Borrowed(args);
                    walk.push(Kind::Args, args, path_len, depth, overlong, None);
                }
            }
        });
    }

    /// Marks a container as entered and pushes its frames, unless it is on the path already or
    /// known to hold no tensor.
    pub(super) fn enter(&mut self, id: Id, is_mapping: bool, push: impl FnOnce(&mut Self, Leaves)) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.barren[word] & bit != 0 {
            return;
        }
        if self.entered[word] & bit != 0 {
            self.cycles += 1;
            return;
        }
        self.entered[word] |= bit;
        let leaves = Leaves {
            node: id,
            entries_before: self.listing.len(),
            cycles_before: self.cycles,
            is_mapping,
        };
        push(self, leaves);
    }

    pub(super) fn leave(&mut self, leaves: Leaves) {
        let index = leaves.node.index();
        let (word, bit) = (index / 64, 1 << (index % 64));
        if !self.once {
            self.entered[word] &= !bit;
        }
        let tensors = self.listing.len() - leaves.entries_before;
        // Where a cycle was cut, another path may find more.
        if tensors == 0 && self.cycles == leaves.cycles_before {
            self.barren[word] |= bit;
        }
        let is_worthy = self.path.len() <= MAX_ROOT_BYTES && self.roots.len() < MAX_ROOTS;
        if tensors > 0 && is_worthy {
            let first = leaves.entries_before;
            let form = match (leaves.is_mapping, self.objects.arena.node(leaves.node)) {
                (false, _) => Form::Sequence,
                (true, Node::Object(_)) => Form::Object,
                (true, _) => Form::Dict,
            };
            self.roots
                .push(Root::new(self.path.clone(), first, tensors, form));
        }
    }

    #[allow(clippy::too_many_arguments)] // The parts of a frame.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        ids: Cow<'a, [Id]>,
        path_len: usize,
        depth: usize,
        overlong: bool,
        leaves: Option<Leaves>,
    ) {
        if ids.is_empty() && leaves.is_none() {
            return;
        }
        let frame = Frame {
            ids,
            next: 0,
            kind,
            path_len,
            depth,
            overlong,
            leaves,
        };
        self.is_full |= self.frame_bytes + frame.bytes() > MAX_FRAME_BYTES;
        if !self.is_full {
            self.frame_bytes += frame.bytes();
            self.frames.push(frame);
        }
    }

    /// The attributes that BUILD gave to a container.
    pub(super) fn push_attributes(
        &mut self,
        id: Id,
        path_len: usize,
        depth: usize,
        overlong: bool,
    ) {
        if let Some(state) = self.objects.arena.attributes(id) {
            self.push_state(state, false, path_len, depth, overlong);
        }
    }

    /// The attributes in a state: a dict, or a pair of dicts where a class has slots.
    pub(super) fn push_state(
        &mut self,
        state: Id,
        of_object: bool,
        path_len: usize,
        depth: usize,
        overlong: bool,
    ) {
        let arena = self.objects.arena;
        let mut pending = vec![state];
        while let Some(state) = pending.pop().filter(|_| !self.is_full) {
            if arena.pairs(state).is_some() {
                let kind = match of_object && is_module(arena, self.objects.pickle, state) {
                    true => Kind::Module,
                    false => Kind::Pairs,
                };
                let ids = self.distinct(state);
                self.push(kind, ids, path_len, depth, overlong, None);
                continue;
            }
            match arena.tuple_items(state) {
                Some(&[first, second])
                    if pending.len() < 64
                        && [first, second].into_iter().all(|id| is_state(arena, id)) =>
                {
                    pending.extend([first, second]);
                }
                _ if arena.items(state).is_some() || self.is_container(state) => {
                    let ids = Cow::Owned(vec![state]);
                    self.push(Kind::State, ids, path_len, depth, overlong, None);
                }
                _ => {}
            }
        }
    }

    /// The keys and values of a dict; of equal keys the last value counts, in the first's place.
    ///
    /// What is looked at, but not visited afterwards, counts as steps here.
    pub(super) fn distinct(&mut self, dict: Id) -> Cow<'a, [Id]> {
        let Objects { arena, pickle } = self.objects;
        let pairs = arena.pairs(dict).unwrap_or(&[]);
        if pairs.len() <= 2 {
            return Cow::Borrowed(pairs);
        }
        let hasher = DefaultHashBuilder::default();
        let key_at = |number: u32| Key::of(arena, pickle, pairs[2 * number as usize]);
        // By number of the pair, and not by key: dicts of tensors have as many as there are.
        let mut seen: HashTable<Seen> = HashTable::with_capacity(pairs.len() / 2);
        let mut kept: Option<Vec<Id>> = None;
        let (mut key_bytes, mut dropped) = (0, 0);
        for (pair, number) in pairs.chunks_exact(2).zip(0..) {
            let at = kept.as_ref().map_or(2 * number as usize, Vec::len);
            let key = key_at(number);
            key_bytes += key.bytes();
            match seen.entry(
                hasher.hash_one(&key),
                |other| key_at(other.number) == key,
                |other| hasher.hash_one(key_at(other.number)),
            ) {
                Entry::Occupied(before) => {
                    dropped += 1;
                    let kept = kept.get_or_insert_with(|| pairs[..2 * number as usize].to_vec());
                    kept[before.get().at as usize + 1] = pair[1];
                }
                Entry::Vacant(free) => {
                    // Arenas number their nodes in 32 bits.
                    let at = at as u32;
                    free.insert(Seen { number, at });
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

    /// Counts work beside the visit of a child; the next visit finds out if it was too much.
    fn spend(&mut self, steps: usize) {
        self.steps_left = self.steps_left.saturating_sub(steps as u64);
    }

    /// Counts bytes hashed or copied. Short keys cost nothing beside the visit itself.
    pub(super) fn spend_bytes(&mut self, bytes: usize) {
        self.spend(bytes / STEP_BYTES);
    }

    /// Whether a node can hold tensors or is one.
    pub(super) fn is_container(&self, id: Id) -> bool {
        matches!(
            self.objects.arena.node(id),
            Node::Persistent(_)
                | Node::Object(_)
                | Node::Dict(_)
                | Node::List(_)
                | Node::Set(_)
                | Node::Tuple { .. }
        )
    }

    pub(super) fn is_module_dict(&self, key: Id, child: Id) -> bool {
        let Objects { arena, pickle } = self.objects;
        arena.pairs(child).is_some()
            && arena
                .string_bytes(pickle, key)
                .is_some_and(|key| MODULE_DICTS.contains(&key))
    }
}
/// The dicts of a module whose keys are its state dict's.
const MODULE_DICTS: [&[u8]; 3] = [b"_parameters", b"_buffers", b"_modules"];

/// Whether a state is that of a `torch.nn.Module`.
fn is_module(arena: &Arena, pickle: &[u8], state: Id) -> bool {
    let pairs = arena.pairs(state).unwrap_or(&[]);
    MODULE_DICTS.iter().all(|dict| {
        // They stand near the front.
        pairs
            .chunks_exact(2)
            .take(64)
            .any(|pair| arena.string_bytes(pickle, pair[0]) == Some(*dict))
    })
}

fn is_state(arena: &Arena, id: Id) -> bool {
    arena.node(id) == Node::None || arena.pairs(id).is_some() || arena.tuple_items(id).is_some()
}
/// A pair of a dict whose key was not there before.
struct Seen {
    number: u32,
    /// Where it stands among the pairs that are kept.
    at: u32,
}

/// A key as Python compares it: `1`, `1.0` and `True` are one.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Int(i64),
    Float(u64),
    Other(Id),
}

impl<'a> Key<'a> {
    fn of(arena: &'a Arena, pickle: &'a [u8], id: Id) -> Self {
        match arena.node(id) {
            Node::Text(span) | Node::Str8(span) => Key::Text(arena.bytes(pickle, span)),
            Node::Bytes(span) => Key::Bytes(arena.bytes(pickle, span)),
            Node::Int(value) => Key::Int(value),
            Node::Bool(value) => Key::Int(i64::from(value)),
            Node::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                Key::Int(value as i64)
            }
            Node::Float(value) => Key::Float(value.to_bits()),
            _ => Key::Other(id),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Key::Text(bytes) | Key::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}
