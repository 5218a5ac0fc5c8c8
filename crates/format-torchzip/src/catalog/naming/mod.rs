//! Names every tensor by its path from the root.
//!
//! A path joins what leads to the tensor with dots: keys of dicts, attributes of objects,
//! positions in lists. Modules are seen through, so that their tensors bear the names of a state
//! dict. Where two tensors would get one name (keys `1` and `'1'`; a key with a dot beside a
//! nested dict), the first in file order keeps it and the others get `#2`, `#3` and so on behind
//! it.
//!
//! A container that several paths lead to is named along each of them. Shared references can
//! make more paths than atoms in the world, so when the paths exceed a limit, the walk begins
//! anew and enters each container once: every tensor is still listed, under its first name.
//! What holds no tensor is entered once in any case.

mod containers;
mod path;

use std::borrow::Cow;

use tensorlift_tensor_meta::Limits;

use crate::catalog::listing::{Listing, Origin, tensor_error};
use crate::catalog::roots::Root;
use crate::error::{Error, Result};
use crate::pickle::globals::Known;
use crate::pickle::{Budget, Id, Node};
use crate::tensors::rebuild::{Form, Objects, Quantizer, Tensor};

pub(crate) use path::push_key_text;

/// Memory for runs of children still to be visited; a few hundred bytes for each level of nesting
/// are the rule.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// What the walk over a file's objects gives.
pub(crate) struct Named<'a> {
    pub(crate) listing: Listing<'a>,
    pub(crate) roots: Vec<Root>,
    /// Whether shared containers were entered only once.
    pub(crate) aliases_omitted: bool,
}

/// A pickle whose tensors are to be named, under a prefix.
pub(crate) struct Tree<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) root: Id,
    pub(crate) prefix: &'static str,
}

/// Names all tensors of some trees.
pub(crate) fn name_tensors<'a>(trees: &[Tree<'a>], budget: &mut Budget) -> Result<Named<'a>> {
    let before = budget.left();
    match walk_all(trees, false, budget) {
        Err(Stop::TooManyPaths) => {}
        Err(Stop::Error(Error::Limit { .. })) => {}
        Err(Stop::Error(error)) => return Err(error),
        Ok(named) => return Ok(named),
    }
    budget.refund(before - budget.left());
    match walk_all(trees, true, budget) {
        Ok(named) => Ok(named),
        Err(Stop::Error(error)) => Err(error),
        // Cannot be, for each container is entered once.
        Err(Stop::TooManyPaths) => Err(Error::Layout("too many paths".to_owned())),
    }
}

fn walk_all<'a>(trees: &[Tree<'a>], once: bool, budget: &mut Budget) -> Result<Named<'a>, Stop> {
    let mut listing: Option<Listing<'a>> = None;
    let mut roots = Vec::new();
    for tree in trees {
        let next = match listing {
            None => Listing::new(&tree.origin),
            Some(mut listing) => {
                listing.continue_with(&tree.origin);
                listing
            }
        };
        let mut walk = Walk::new(next, tree.origin.limits, once);
        walk.run(tree.root, tree.prefix, budget)?;
        roots.append(&mut walk.roots);
        listing = Some(walk.listing);
    }
    match listing {
        Some(listing) => Ok(Named {
            listing,
            roots,
            aliases_omitted: once,
        }),
        None => Err(Stop::Error(Error::Layout("there is no pickle".to_owned()))),
    }
}

/// Why a walk ended early.
enum Stop {
    TooManyPaths,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

struct Walk<'a> {
    listing: Listing<'a>,
    objects: Objects<'a>,
    limits: &'a Limits,
    once: bool,
    steps_left: u64,
    path: String,
    /// Whether even the root's children get a dot before their names.
    has_prefix: bool,
    frames: Vec<Frame<'a>>,
    /// What the frames take in memory, in bytes, and whether one had no room any more.
    frame_bytes: usize,
    is_full: bool,
    /// Containers on the current path, or all that were entered if each is entered once.
    entered: Vec<u64>,
    /// Containers without a tensor, however they are reached: entering them again would be vain.
    barren: Vec<u64>,
    /// How often a container was met within itself.
    cycles: u64,
    roots: Vec<Root>,
}

/// A run of children still to be visited.
struct Frame<'a> {
    ids: Cow<'a, [Id]>,
    next: usize,
    kind: Kind,
    path_len: usize,
    depth: usize,
    /// The path is longer than a name may be.
    overlong: bool,
    /// Done with the node once this frame is done: the last of its frames.
    leaves: Option<Leaves>,
}

impl Frame<'_> {
    fn bytes(&self) -> usize {
        let own = match &self.ids {
            Cow::Borrowed(_) => 0,
            Cow::Owned(ids) => size_of_val(ids.as_slice()),
        };
        size_of::<Self>() + own
    }
}

#[derive(Clone, Copy)]
struct Leaves {
    node: Id,
    entries_before: usize,
    cycles_before: u64,
    is_mapping: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Named by their positions.
    Items,
    /// The same, one level down.
    Args,
    /// Keys and values in turn.
    Pairs,
    /// The same, of a module: its dicts of parameters, buffers and modules are seen through.
    Module,
    /// A state that is no dict.
    State,
    /// A part of a tensor, such as the values of a sparse one.
    Part(&'static str),
    /// The key of a dict, below the path of its value.
    Key,
}

impl<'a> Walk<'a> {
    fn new(listing: Listing<'a>, limits: &'a Limits, once: bool) -> Self {
        let objects = listing.objects;
        let nodes = objects.arena.len();
        // Whatever is not shared is visited once and does not count.
        let free = nodes as u64 + objects.pickle.len() as u64;
        Self {
            listing,
            objects,
            limits,
            once,
            steps_left: free.saturating_add(limits.expanded_nodes as u64),
            path: String::new(),
            has_prefix: false,
            frames: Vec::new(),
            frame_bytes: 0,
            is_full: false,
            entered: vec![0; nodes.div_ceil(64)],
            barren: vec![0; nodes.div_ceil(64)],
            cycles: 0,
            roots: Vec::new(),
        }
    }

    fn run(&mut self, root: Id, prefix: &str, budget: &mut Budget) -> Result<(), Stop> {
        self.path.push_str(prefix);
        self.has_prefix = !prefix.is_empty();
        let path_len = self.path.len();
        self.visit(root, path_len, 0, false, budget)?;
        loop {
            if self.is_full {
                return Err(Stop::Error(Error::Limit {
                    what: "memory for naming tensors, in bytes",
                    limit: MAX_FRAME_BYTES as u64,
                    found: MAX_FRAME_BYTES as u64 + 1,
                }));
            }
            let Some(frame) = self.frames.last_mut() else {
                return Ok(());
            };
            let path_len = frame.path_len;
            self.path.truncate(path_len);
            let step = if matches!(frame.kind, Kind::Pairs | Kind::Module) {
                2
            } else {
                1
            };
            let Some(children) = frame.ids.get(frame.next..frame.next + step) else {
                let leaves = frame.leaves;
                self.frame_bytes -= frame.bytes();
                self.frames.pop();
                if let Some(leaves) = leaves {
                    self.leave(leaves);
                }
                continue;
            };
            let position = frame.next;
            frame.next += step;
            let (kind, depth, overlong) = (frame.kind, frame.depth, frame.overlong);
            let child = children[step - 1];
            let key = children[0];
            self.steps_left = match self.steps_left.checked_sub(1) {
                Some(left) => left,
                None if self.once => 0,
                None => return Err(Stop::TooManyPaths),
            };
            let key_holds = step == 2 && self.is_container(key);
            if !self.is_container(child) && !key_holds {
                continue;
            }
            match kind {
                Kind::Module if self.is_module_dict(key, child) => {
                    let ids = self.distinct(child);
                    self.push(Kind::Pairs, ids, path_len, depth, overlong, None);
                    continue;
                }
                Kind::Module | Kind::Pairs => self.push_key(key, depth),
                Kind::Items => self.push_position(position, depth),
                Kind::Args => {
                    self.push_segment("args", depth);
                    self.push_position(position, depth + 1);
                }
                Kind::State => self.push_segment("state", depth),
                Kind::Part(part) => self.push_segment(part, depth),
                Kind::Key => self.path.push_str("#key"),
            }
            let overlong = self.check_length(path_len) || overlong;
            let len = self.path.len();
            if key_holds {
                // After all that the value holds, which thus keeps the plain name.
                let key = Cow::Owned(vec![key]);
                self.push(Kind::Key, key, len, depth, overlong, None);
            }
            self.visit(child, len, depth + 1, overlong, budget)?;
        }
    }

    /// Lists a node if it is a tensor, else prepares the visit of its children.
    fn visit(
        &mut self,
        id: Id,
        path_len: usize,
        depth: usize,
        overlong: bool,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        if depth > self.limits.pickle_depth {
            return Err(Stop::Error(Error::Limit {
                what: "nesting of a pickle's objects",
                limit: self.limits.pickle_depth as u64,
                found: depth as u64,
            }));
        }
        match self.objects.arena.node(id) {
            Node::Persistent(_) => {
                if self.objects.arena.as_global(id).is_some() {
                    return Ok(());
                }
                self.check_overlong(overlong)?;
                self.outside(id, depth, budget)
            }
            Node::Object(_) => {
                let fail = |problem| tensor_error(&self.path, problem);
                if let Some(dense) = self.objects.plain_tensor(id).map_err(fail)? {
                    self.check_overlong(overlong)?;
                    let grad = dense.requires_grad;
                    return Ok(self.list(depth, |listing, name| {
                        listing.dense(id, name, dense, grad, budget)
                    })?);
                }
                let tensor = self.objects.tensor(id).map_err(fail)?;
                match tensor {
                    Some(tensor) => {
                        self.check_overlong(overlong)?;
                        self.tensor(id, tensor, path_len, depth, overlong, budget)
                    }
                    None if self
                        .objects
                        .arena
                        .as_object(id)
                        .is_some_and(|(_, known)| known == Known::LoadFromBytes) =>
                    {
                        self.check_overlong(overlong)?;
                        Ok(self.list(depth, |listing, name| {
                            listing.whole_storage(id, name, budget)
                        })?)
                    }
                    None => {
                        self.enter_object(id, path_len, depth, overlong);
                        Ok(())
                    }
                }
            }
            Node::Dict(_) => {
                self.enter(id, true, |walk, leaves| {
                    let ids = walk.distinct(id);
                    walk.push(Kind::Pairs, ids, path_len, depth, overlong, Some(leaves));
                    walk.push_attributes(id, path_len, depth, overlong);
                });
                Ok(())
            }
            Node::List(_) | Node::Tuple { .. } | Node::Set(_) => {
                let ids = self.objects.arena.items(id).unwrap_or(&[]);
                self.enter(id, false, |walk, leaves| {
                    let ids = Cow::Borrowed(ids);
                    walk.push(Kind::Items, ids, path_len, depth, overlong, Some(leaves));
                    walk.push_attributes(id, path_len, depth, overlong);
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn outside(&mut self, id: Id, depth: usize, budget: &mut Budget) -> Result<(), Stop> {
        Ok(
            self.list(depth, |listing, name| match listing.outside_tensor(id) {
                Some(dense) => listing.dense(id, name, dense, false, budget),
                None => listing.whole_storage(id, name, budget),
            })?,
        )
    }

    fn tensor(
        &mut self,
        id: Id,
        tensor: Tensor,
        path_len: usize,
        depth: usize,
        overlong: bool,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let Tensor {
            form,
            requires_grad,
            states,
        } = tensor;
        for &state in states.iter().rev() {
            self.push_state(state, false, path_len, depth, overlong);
        }
        let grad = |own: bool| requires_grad.unwrap_or(own);
        match form {
            Form::Dense(dense) => {
                let grad = grad(dense.requires_grad);
                self.list(depth, |listing, name| {
                    listing.dense(id, name, dense, grad, budget)
                })?;
            }
            Form::Wrapper(dense) => {
                // What it wraps is among its attributes; without any it is all there is.
                if states.iter().all(|&state| !self.is_container(state)) {
                    let grad = grad(dense.requires_grad);
                    self.list(depth, |listing, name| {
                        listing.dense(id, name, dense, grad, budget)
                    })?;
                }
            }
            Form::Quantized(dense, quantizer) => {
                let grad = grad(dense.requires_grad);
                self.list(depth, |listing, name| {
                    listing.dense(id, name, dense, grad, budget)
                })?;
                let prefix = match self.path.as_str() {
                    "" if depth == 0 => String::new(),
                    path => format!("{path}."),
                };
                self.listing.quantizer(&prefix, &quantizer, budget)?;
                if let Quantizer::PerChannel {
                    scales,
                    zero_points,
                } = quantizer
                {
                    let parts = vec![("scales", scales), ("zero_points", zero_points)];
                    self.parts(parts, path_len, depth, overlong);
                }
            }
            Form::Parts(parts) => self.parts(parts, path_len, depth, overlong),
            Form::Array(array) => {
                self.list(depth, |listing, name| {
                    listing.array(id, name, &array, grad(false), budget)
                })?;
            }
            Form::Outside(inner) => {
                self.list(depth, |listing, name| match listing.outside_tensor(inner) {
                    Some(dense) => listing.dense(id, name, dense, grad(false), budget),
                    None => listing.whole_storage(inner, name, budget),
                })?;
            }
        }
        Ok(())
    }

    /// Lists something under the name of the current path; a tensor that is the root itself is
    /// called `tensor`.
    fn list(
        &mut self,
        depth: usize,
        add: impl FnOnce(&mut Listing<'a>, &str) -> Result<()>,
    ) -> Result<()> {
        let name = match depth {
            0 if !self.has_prefix => "tensor",
            _ => &self.path,
        };
        add(&mut self.listing, name)
    }

    /// The parts get frames of their own, since what they hold is visited later.
    fn parts(
        &mut self,
        parts: Vec<(&'static str, Id)>,
        path_len: usize,
        depth: usize,
        overlong: bool,
    ) {
        for (part, id) in parts.into_iter().rev() {
            let ids = Cow::Owned(vec![id]);
            self.push(Kind::Part(part), ids, path_len, depth, overlong, None);
        }
    }
}
