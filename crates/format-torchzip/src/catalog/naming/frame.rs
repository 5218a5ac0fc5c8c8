//! The frames of the walk: children that are still to be visited.

use std::borrow::Cow;

use crate::pickle::Id;
use crate::pickle::globals::TorchDtype;

use super::Content;

/// A run of children still to be visited.
pub(super) struct Frame<'a> {
    pub(super) ids: Cow<'a, [Id]>,
    pub(super) next: usize,
    pub(super) way: Way,
    pub(super) at: Position,
    /// Done with the node once this frame is done: the last of its frames.
    pub(super) leaves: Option<Leaves>,
}

/// The position of a node.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) path_len: usize,
    pub(super) depth: usize,
    /// The path is longer than a name may be.
    pub(super) overlong: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Leaves {
    pub(super) node: Id,
    pub(super) found_before: usize,
    pub(super) cycles_before: u64,
    pub(super) is_mapping: bool,
}

/// How children extend the path.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// By their positions.
    Items,
    /// The same, one level down.
    Args,
    /// Keys and values, alternating.
    Pairs,
    /// The same, of a module: its dicts of parameters, buffers and modules are seen through.
    Module,
    /// A state that is no dict.
    State,
    /// A part of a tensor, such as the values of a sparse one.
    Part(&'static str),
    /// The key of a dict, below the path of its value.
    Key,
    /// The scale of a quantized tensor: no child, but a tensor of its own.
    Scale(f64),
    /// Its zero point.
    ZeroPoint(i64),
}

/// A tensor whose path is the current one.
pub(super) struct Named {
    pub(super) object: Option<Id>,
    pub(super) content: Content,
    pub(super) requires_grad: bool,
    pub(super) converted_to: Option<TorchDtype>,
    pub(super) depth: usize,
}

/// The result of one step of the walk.
pub(super) enum Stepped {
    End,
    On(Option<Named>),
}

/// A bit for each node of an arena.
pub(super) struct BitSet(Vec<u64>);

impl BitSet {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        self.0[id.index() / 64] & 1 << (id.index() % 64) != 0
    }

    pub(super) fn insert(&mut self, id: Id) {
        self.0[id.index() / 64] |= 1 << (id.index() % 64);
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.0[id.index() / 64] &= !(1 << (id.index() % 64));
    }
}

impl Frame<'_> {
    pub(super) fn byte_len(&self) -> usize {
        let own = match &self.ids {
            Cow::Borrowed(_) => 0,
            Cow::Owned(ids) => size_of_val(ids.as_slice()),
        };
        size_of::<Self>() + own
    }
}
