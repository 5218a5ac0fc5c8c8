//! Finds every tensor and names it by its path from the root.
//!
//! A path joins what leads to the tensor with dots: keys of dicts, attributes of objects,
//! positions in lists. Modules add no names of their own attributes, so that their tensors have the
//! names of a state dict.
//!
//! The walk keeps its own stack of frames, so nesting costs no machine stack. Shared references can
//! make exponentially many paths: steps are counted, and containers without tensors are entered
//! once.

mod containers;
mod frame;
mod keys;
mod path;
mod visit;

use std::borrow::Cow;

use tensorlift_tensor_meta::Limits;

use crate::error::Error;
use crate::pickle::Id;
use crate::pickle::globals::TorchDtype;
use crate::tensors::numpy::Array;
use crate::tensors::objects::Objects;
use crate::tensors::rebuild::Dense;

use super::roots::Root;
use super::tree::Tree;
use frame::{BitSet, Frame, Position, Stepped, Way};

/// The memory for children that are still to be visited; usually a few hundred bytes for each level
/// of nesting.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// A tensor that the walk found.
pub(super) struct Found<'w> {
    /// Its path from the root.
    pub(super) name: &'w str,
    /// The object; a number beside a tensor has none.
    pub(super) object: Option<Id>,
    pub(super) requires_grad: bool,
    /// The dtype that a wrapper converts the tensor to.
    pub(super) converted_to: Option<TorchDtype>,
}

/// What a tensor that was found consists of.
pub(super) enum Content {
    Dense(Dense),
    Array(Array),
    /// All of a storage, or what the tar layout keeps under this persistent id.
    Storage(Id),
    Scale(f64),
    ZeroPoint(i64),
}

/// Why a walk ended early.
pub(super) enum Stop {
    TooManyPaths,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

/// How often a container is entered that several paths lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    EveryPath,
    FirstPath,
}

/// A walk over the objects of a pickle, from one tensor to the next.
pub(super) struct Walk<'a> {
    objects: Objects<'a>,
    limits: &'a Limits,
    sharing: Sharing,
    steps_left: u64,
    path: String,
    /// Whether the names of the root's children begin with a dot.
    has_prefix: bool,
    /// The root, until it is visited.
    root: Option<Id>,
    frames: Vec<Frame<'a>>,
    /// The memory of the frames in bytes, and whether it exceeded the limit.
    frame_bytes: usize,
    is_full: bool,
    /// Containers on the current path, or all that were entered if each is entered once.
    entered: BitSet,
    /// Containers without a tensor, however they are reached.
    empty: BitSet,
    /// How often a container was met within itself.
    cycles: u64,
    /// The tensors found so far, those of earlier trees included.
    found: usize,
    roots: Vec<Root>,
}

impl<'a> Walk<'a> {
    /// A walk over a tree; `found` tensors were found in others before.
    pub(super) fn new(tree: &Tree<'a>, limits: &'a Limits, sharing: Sharing, found: usize) -> Self {
        let objects = tree.objects;
        let nodes = objects.arena.len();
        // Objects that are not shared are visited once and do not count.
        let free = nodes as u64 + objects.pickle.len() as u64;
        Self {
            objects,
            limits,
            sharing,
            steps_left: free.saturating_add(limits.expanded_nodes as u64),
            path: tree.prefix.to_owned(),
            has_prefix: !tree.prefix.is_empty(),
            root: Some(tree.root),
            frames: Vec::new(),
            frame_bytes: 0,
            is_full: false,
            entered: BitSet::new(nodes),
            empty: BitSet::new(nodes),
            cycles: 0,
            found,
            roots: Vec::new(),
        }
    }

    /// The containers that hold tensors, once the walk has ended.
    pub(super) fn into_roots(self) -> Vec<Root> {
        self.roots
    }

    /// Finds the next tensor.
    pub(super) fn next(&mut self) -> Result<Option<(Found<'_>, Content)>, Stop> {
        let mut named = match self.root.take() {
            Some(root) => self.visit(
                root,
                Position {
                    path_len: self.path.len(),
                    depth: 0,
                    overlong: false,
                },
            )?,
            None => None,
        };
        let named = loop {
            match named {
                Some(named) => break named,
                None => match self.step()? {
                    Stepped::End => return Ok(None),
                    Stepped::On(next) => named = next,
                },
            }
        };
        self.found += 1;
        // A tensor that is the root itself has no path.
        let name = match named.depth {
            0 if !self.has_prefix => "tensor",
            _ => &self.path,
        };
        let found = Found {
            name,
            object: named.object,
            requires_grad: named.requires_grad,
            converted_to: named.converted_to,
        };
        Ok(Some((found, named.content)))
    }

    /// Visits the next child of the last frame, or drops a frame that has none.
    fn step(&mut self) -> Result<Stepped, Stop> {
        if self.is_full {
            return Err(Stop::Error(Error::Limit {
                what: "memory for naming tensors, in bytes",
                limit: MAX_FRAME_BYTES as u64,
                found: MAX_FRAME_BYTES as u64 + 1,
            }));
        }
        let Some(frame) = self.frames.last_mut() else {
            return Ok(Stepped::End);
        };
        let (position, way, at) = (frame.next, frame.way, frame.at);
        self.path.truncate(at.path_len);
        let width = match way {
            Way::Pairs | Way::Module => 2,
            _ => 1,
        };
        let Some(children) = frame.ids.get(position..position + width) else {
            let leaves = frame.leaves;
            self.frame_bytes -= frame.byte_len();
            self.frames.pop();
            if let Some(leaves) = leaves {
                self.leave(leaves);
            }
            return Ok(Stepped::On(None));
        };
        let (key, child) = (children[0], children[width - 1]);
        frame.next += width;
        self.steps_left = match self.steps_left.checked_sub(1) {
            Some(left) => left,
            None if self.sharing == Sharing::FirstPath => 0,
            None => return Err(Stop::TooManyPaths),
        };
        if let Some(number) = self.number(way, at) {
            return Ok(Stepped::On(Some(number)));
        }
        let key_holds = width == 2 && self.is_container(key);
        if !self.is_container(child) && !key_holds {
            return Ok(Stepped::On(None));
        }
        if way == Way::Module && self.is_module_dict(key, child) {
            let ids = self.distinct(child);
            self.push(Way::Pairs, ids, at, None);
            return Ok(Stepped::On(None));
        }
        self.push_child(way, key, position, at.depth);
        let overlong = self.check_length(at.path_len) || at.overlong;
        let path_len = self.path.len();
        let depth = at.depth;
        if key_holds {
            // Visited after the value, so that the value keeps the plain name.
            let at = Position {
                path_len,
                depth,
                overlong,
            };
            self.push(Way::Key, Cow::Owned(vec![key]), at, None);
        }
        let at = Position {
            path_len,
            depth: depth + 1,
            overlong,
        };
        Ok(Stepped::On(self.visit(child, at)?))
    }
}
