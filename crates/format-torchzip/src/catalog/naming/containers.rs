//! Entering containers once on each path, and the attributes of objects.

use std::borrow::Cow;

use crate::catalog::roots::{Root, RootKind};
use crate::pickle::{Arena, Id, Node};
use crate::tensors::objects::Objects;

use super::frame::{Frame, Leaves, Position, Way};
use super::{MAX_FRAME_BYTES, Sharing, Walk};

/// The most roots, and the longest path of one in bytes; deeper containers are parts of a model.
const MAX_ROOTS: usize = 10_000;
const MAX_ROOT_BYTES: usize = 1024;
/// Bytes of keys that cost about as much as a step.
const STEP_BYTES: usize = 64;

/// # Entering and leaving containers
impl<'a> Walk<'a> {
    pub(super) fn enter_object(&mut self, id: Id, at: Position) {
        let arena = self.objects.arena;
        let Some((object, _)) = arena.as_object(id) else {
            return;
        };
        let object = *object;
        self.enter(id, true, |walk, leaves| {
            // The last pushed is visited first.
            let pairs = Cow::Borrowed(arena.seq(object.dict));
            walk.push(Way::Pairs, pairs, at, Some(leaves));
            let items = Cow::Borrowed(arena.seq(object.list));
            walk.push(Way::Items, items, at, None);
            for state in arena.states(&object).rev() {
                walk.push_state(state, true, at);
            }
            let args = arena.tuple_items(object.args).unwrap_or(&[]);
            match args {
                // A traced module is made from the attributes of the module that was traced.
                [state, ..] if is_module(arena, walk.objects.pickle, *state) => {
                    walk.push_state(*state, true, at);
                }
                args => {
                    let args = Cow::Borrowed(args);
                    walk.push(Way::Args, args, at, None);
                }
            }
        });
    }

    /// Marks a container as entered and pushes its frames, unless it is on the path already or
    /// known to hold no tensor.
    pub(super) fn enter(&mut self, id: Id, is_mapping: bool, push: impl FnOnce(&mut Self, Leaves)) {
        if self.empty.contains(id) {
            return;
        }
        if self.entered.contains(id) {
            self.cycles += 1;
            return;
        }
        self.entered.insert(id);
        let leaves = Leaves {
            node: id,
            found_before: self.found,
            cycles_before: self.cycles,
            is_mapping,
        };
        push(self, leaves);
    }

    pub(super) fn leave(&mut self, leaves: Leaves) {
        if self.sharing == Sharing::EveryPath {
            self.entered.remove(leaves.node);
        }
        let tensors = self.found - leaves.found_before;
        // Where a cycle was cut, another path may find more.
        if tensors == 0 && self.cycles == leaves.cycles_before {
            self.empty.insert(leaves.node);
        }
        let is_listed = self.path.len() <= MAX_ROOT_BYTES && self.roots.len() < MAX_ROOTS;
        if tensors > 0 && is_listed {
            let first = leaves.found_before;
            let kind = match (leaves.is_mapping, self.objects.arena.node(leaves.node)) {
                (false, _) => RootKind::Sequence,
                (true, Node::Object(_)) => RootKind::Object,
                (true, _) => RootKind::Dict,
            };
            self.roots
                .push(Root::new(self.path.clone(), first, tensors, kind));
        }
    }

    pub(super) fn push(
        &mut self,
        way: Way,
        ids: Cow<'a, [Id]>,
        at: Position,
        leaves: Option<Leaves>,
    ) {
        if ids.is_empty() && leaves.is_none() {
            return;
        }
        let frame = Frame {
            ids,
            next: 0,
            way,
            at,
            leaves,
        };
        self.is_full |= self.frame_bytes + frame.byte_len() > MAX_FRAME_BYTES;
        if !self.is_full {
            self.frame_bytes += frame.byte_len();
            self.frames.push(frame);
        }
    }

    /// The attributes that BUILD gave to a container.
    pub(super) fn push_attributes(&mut self, id: Id, at: Position) {
        if let Some(state) = self.objects.arena.attributes(id) {
            self.push_state(state, false, at);
        }
    }

    /// The attributes in a state: a dict, or a pair of dicts where a class has slots.
    pub(super) fn push_state(&mut self, state: Id, of_object: bool, at: Position) {
        let arena = self.objects.arena;
        let mut pending = vec![state];
        while let Some(state) = pending.pop().filter(|_| !self.is_full) {
            if arena.pairs(state).is_some() {
                let way = match of_object && is_module(arena, self.objects.pickle, state) {
                    true => Way::Module,
                    false => Way::Pairs,
                };
                let ids = self.distinct(state);
                self.push(way, ids, at, None);
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
                    self.push(Way::State, ids, at, None);
                }
                _ => {}
            }
        }
    }

    /// Counts other work than visits of children; the next visit checks the limit.
    pub(super) fn spend(&mut self, steps: usize) {
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
        // These keys are near the front.
        pairs
            .chunks_exact(2)
            .take(64)
            .any(|pair| arena.string_bytes(pickle, pair[0]) == Some(*dict))
    })
}

fn is_state(arena: &Arena, id: Id) -> bool {
    arena.node(id) == Node::None || arena.pairs(id).is_some() || arena.tuple_items(id).is_some()
}
