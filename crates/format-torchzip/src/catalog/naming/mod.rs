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
mod keys;
mod path;

use std::borrow::Cow;

use tensorlift_tensor_meta::Limits;

use crate::error::Error;
use crate::pickle::globals::{Known, TorchDtype};
use crate::pickle::{Id, Node};
use crate::tensors::numpy::Array;
use crate::tensors::objects::Objects;
use crate::tensors::rebuild::{Dense, Quantizer, Tensor, TensorKind};

use super::roots::Root;
use super::tree::Tree;

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

/// A run of children still to be visited.
struct Frame<'a> {
    ids: Cow<'a, [Id]>,
    next: usize,
    way: Way,
    at: Position,
    /// Done with the node once this frame is done: the last of its frames.
    leaves: Option<Leaves>,
}

/// The position of a node.
#[derive(Clone, Copy)]
struct Position {
    path_len: usize,
    depth: usize,
    /// The path is longer than a name may be.
    overlong: bool,
}

#[derive(Clone, Copy)]
struct Leaves {
    node: Id,
    found_before: usize,
    cycles_before: u64,
    is_mapping: bool,
}

/// How children extend the path.
#[derive(Clone, Copy, PartialEq)]
enum Way {
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
struct Named {
    object: Option<Id>,
    content: Content,
    requires_grad: bool,
    converted_to: Option<TorchDtype>,
    depth: usize,
}

/// The result of one step of the walk.
enum Stepped {
    End,
    On(Option<Named>),
}

/// A bit for each node of an arena.
struct BitSet(Vec<u64>);

impl BitSet {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn contains(&self, id: Id) -> bool {
        self.0[id.index() / 64] & 1 << (id.index() % 64) != 0
    }

    fn insert(&mut self, id: Id) {
        self.0[id.index() / 64] |= 1 << (id.index() % 64);
    }

    fn remove(&mut self, id: Id) {
        self.0[id.index() / 64] &= !(1 << (id.index() % 64));
    }
}

impl Frame<'_> {
    fn byte_len(&self) -> usize {
        let own = match &self.ids {
            Cow::Borrowed(_) => 0,
            Cow::Owned(ids) => size_of_val(ids.as_slice()),
        };
        size_of::<Self>() + own
    }
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

    /// The number beside a quantized tensor that a frame represents.
    fn number(&mut self, way: Way, at: Position) -> Option<Named> {
        let (segment, content) = match way {
            Way::Scale(scale) => ("scale", Content::Scale(scale)),
            Way::ZeroPoint(zero_point) => ("zero_point", Content::ZeroPoint(zero_point)),
            _ => return None,
        };
        self.push_segment(segment, at.depth);
        Some(Named {
            object: None,
            content,
            requires_grad: false,
            converted_to: None,
            depth: at.depth + 1,
        })
    }

    /// Returns a node that is a tensor; of another, prepares the visit of its children.
    fn visit(&mut self, id: Id, at: Position) -> Result<Option<Named>, Stop> {
        if at.depth > self.limits.pickle_depth {
            return Err(Stop::Error(Error::Limit {
                what: "nesting of a pickle's objects",
                limit: self.limits.pickle_depth as u64,
                found: at.depth as u64,
            }));
        }
        match self.objects.arena.node(id) {
            Node::Persistent(_) if self.objects.arena.as_global(id).is_some() => Ok(None),
            Node::Persistent(_) => self.storage(id, at).map(Some),
            Node::Object(_) => self.visit_object(id, at),
            Node::Dict(_) => {
                self.enter(id, true, |walk, leaves| {
                    let ids = walk.distinct(id);
                    walk.push(Way::Pairs, ids, at, Some(leaves));
                    walk.push_attributes(id, at);
                });
                Ok(None)
            }
            Node::List(_) | Node::Tuple { .. } | Node::Set(_) => {
                let ids = self.objects.arena.items(id).unwrap_or(&[]);
                self.enter(id, false, |walk, leaves| {
                    walk.push(Way::Items, Cow::Borrowed(ids), at, Some(leaves));
                    walk.push_attributes(id, at);
                });
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn visit_object(&mut self, id: Id, at: Position) -> Result<Option<Named>, Stop> {
        let fail = |problem| Error::tensor(&self.path, problem);
        if let Some(dense) = self.objects.plain_tensor(id).map_err(fail)? {
            self.check_overlong(at.overlong)?;
            return Ok(Some(Named {
                object: Some(id),
                requires_grad: dense.requires_grad,
                content: Content::Dense(dense),
                converted_to: None,
                depth: at.depth,
            }));
        }
        if let Some(tensor) = self.objects.tensor(id).map_err(fail)? {
            self.check_overlong(at.overlong)?;
            return Ok(self.tensor(id, tensor, at));
        }
        match self.objects.arena.as_object(id) {
            Some((_, Known::LoadFromBytes)) => self.storage(id, at).map(Some),
            _ => {
                self.enter_object(id, at);
                Ok(None)
            }
        }
    }

    fn storage(&self, id: Id, at: Position) -> Result<Named, Stop> {
        self.check_overlong(at.overlong)?;
        Ok(Named {
            object: Some(id),
            content: Content::Storage(id),
            requires_grad: false,
            converted_to: None,
            depth: at.depth,
        })
    }

    /// Returns a tensor that has elements of its own; what is below it is visited later.
    fn tensor(&mut self, id: Id, tensor: Tensor, at: Position) -> Option<Named> {
        let Tensor { kind, wrapping } = tensor;
        for &state in wrapping.states.iter().rev() {
            self.push_state(state, false, at);
        }
        let (content, own_grad) = match kind {
            TensorKind::Dense(dense) => {
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Wrapper(dense) => {
                // What it wraps is among its attributes; without any it is all there is.
                if wrapping
                    .states
                    .iter()
                    .any(|&state| self.is_container(state))
                {
                    return None;
                }
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Quantized(dense, quantizer) => {
                self.push_quantizer(&quantizer, at);
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Parts(parts) => {
                self.push_parts(&parts, at);
                return None;
            }
            TensorKind::Array(array) => (Content::Array(array), false),
            TensorKind::Storage(inner) => (Content::Storage(inner), false),
        };
        Some(Named {
            object: Some(id),
            content,
            requires_grad: wrapping.requires_grad.unwrap_or(own_grad),
            converted_to: wrapping.dtype,
            depth: at.depth,
        })
    }

    fn push_quantizer(&mut self, quantizer: &Quantizer, at: Position) {
        // The last pushed is visited first.
        match *quantizer {
            Quantizer::PerTensor { scale, zero_point } => {
                let nothing = || Cow::Borrowed(&[Id::NONE][..]);
                self.push(Way::ZeroPoint(zero_point), nothing(), at, None);
                self.push(Way::Scale(scale), nothing(), at, None);
            }
            Quantizer::PerChannel {
                scales,
                zero_points,
            } => self.push_parts(&[("scales", scales), ("zero_points", zero_points)], at),
        }
    }

    /// The parts get frames of their own, since what they hold is visited later.
    fn push_parts(&mut self, parts: &[(&'static str, Id)], at: Position) {
        for &(part, id) in parts.iter().rev() {
            self.push(Way::Part(part), Cow::Owned(vec![id]), at, None);
        }
    }
}
