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

use std::borrow::Cow;
use std::fmt::Write;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tensorlift_tensor_meta::Limits;

use crate::error::{Error, Result};
use crate::globals::Known;
use crate::listing::{Listing, Origin, tensor_error};
use crate::pickle::{Arena, Budget, Id, Node, display_text};
use crate::rebuild::{Form, Objects, Tensor};
use crate::roots::Root;

/// Roots worth noting; deeper ones are parts of a model that nobody would load alone.
const MAX_ROOTS: usize = 10_000;

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
    /// Containers on the current path, or all that were entered if each is entered once.
    entered: Vec<u64>,
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

#[derive(Clone, Copy)]
struct Leaves {
    node: Id,
    entries_before: usize,
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
            entered: vec![0; nodes.div_ceil(64)],
            roots: Vec::new(),
        }
    }

    fn run(&mut self, root: Id, prefix: &str, budget: &mut Budget) -> Result<(), Stop> {
        self.path.push_str(prefix);
        self.has_prefix = !prefix.is_empty();
        let path_len = self.path.len();
        self.visit(root, path_len, 0, false, budget)?;
        while let Some(frame) = self.frames.last_mut() {
            let path_len = frame.path_len;
            self.path.truncate(path_len);
            let step = if matches!(frame.kind, Kind::Pairs | Kind::Module) {
                2
            } else {
                1
            };
            let Some(children) = frame.ids.get(frame.next..frame.next + step) else {
                let leaves = frame.leaves;
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
            }
            let overlong = self.check_length(path_len) || overlong;
            let len = self.path.len();
            self.visit(child, len, depth + 1, overlong, budget)?;
            if key_holds {
                // After the value, which thus keeps the plain name.
                self.path.truncate(len);
                self.path.push_str("#key");
                let len = self.path.len();
                self.visit(key, len, depth + 1, overlong, budget)?;
            }
        }
        Ok(())
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
                let tensor = self
                    .objects
                    .tensor(id)
                    .map_err(|problem| tensor_error(&self.path, problem))?;
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
                        let name = self.name(depth);
                        Ok(self.listing.whole_storage(id, &name, budget)?)
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
        let name = self.name(depth);
        match self.listing.outside_tensor(id) {
            Some(dense) => self.listing.dense(id, &name, dense, false, budget)?,
            None => self.listing.whole_storage(id, &name, budget)?,
        }
        Ok(())
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
                let name = self.name(depth);
                self.listing.dense(id, &name, dense, grad, budget)?;
            }
            Form::Wrapper(dense) => {
                // What it wraps is among its attributes; without any it is all there is.
                if states.iter().all(|&state| !self.is_container(state)) {
                    let grad = grad(dense.requires_grad);
                    let name = self.name(depth);
                    self.listing.dense(id, &name, dense, grad, budget)?;
                }
            }
            Form::Quantized(dense, quantizer) => {
                let grad = grad(dense.requires_grad);
                let name = self.name(depth);
                self.listing.dense(id, &name, dense, grad, budget)?;
                let prefix = match self.path.as_str() {
                    "" if depth == 0 => String::new(),
                    path => format!("{path}."),
                };
                self.listing.quantizer(&prefix, &quantizer, budget)?;
                if let crate::rebuild::Quantizer::PerChannel {
                    scales,
                    zero_points,
                } = quantizer
                {
                    let parts = vec![("scales", scales), ("zero_points", zero_points)];
                    self.parts(parts, path_len, depth, overlong, budget)?;
                }
            }
            Form::Parts(parts) => self.parts(parts, path_len, depth, overlong, budget)?,
            Form::Array(array) => {
                let name = self.name(depth);
                self.listing.array(id, &name, &array, grad(false), budget)?;
            }
            Form::Outside(inner) => {
                let name = self.name(depth);
                match self.listing.outside_tensor(inner) {
                    Some(dense) => {
                        self.listing.dense(id, &name, dense, grad(false), budget)?;
                    }
                    None => self.listing.whole_storage(inner, &name, budget)?,
                }
            }
        }
        Ok(())
    }

    fn parts(
        &mut self,
        parts: Vec<(&'static str, Id)>,
        path_len: usize,
        depth: usize,
        overlong: bool,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        for (part, id) in parts {
            self.path.truncate(path_len);
            self.push_segment(part, depth);
            let len = self.path.len();
            self.visit(id, len, depth + 1, overlong, budget)?;
        }
        self.path.truncate(path_len);
        Ok(())
    }
}

/// # Entering and leaving containers
impl<'a> Walk<'a> {
    fn enter_object(&mut self, id: Id, path_len: usize, depth: usize, overlong: bool) {
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
            if let Some(state) = object.state {
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

    /// Marks a container as entered and pushes its frames, unless it is on the path already.
    fn enter(&mut self, id: Id, is_mapping: bool, push: impl FnOnce(&mut Self, Leaves)) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.entered[word] & bit != 0 {
            return;
        }
        self.entered[word] |= bit;
        let leaves = Leaves {
            node: id,
            entries_before: self.listing.len(),
            is_mapping,
        };
        push(self, leaves);
    }

    fn leave(&mut self, leaves: Leaves) {
        if !self.once {
            let index = leaves.node.index();
            self.entered[index / 64] &= !(1 << (index % 64));
        }
        let tensors = self.listing.len() - leaves.entries_before;
        if leaves.is_mapping && tensors > 0 && self.roots.len() < MAX_ROOTS {
            let first = leaves.entries_before;
            let is_object = matches!(self.objects.arena.node(leaves.node), Node::Object(_));
            let path = self.path.clone();
            self.roots.push(Root::new(path, first, tensors, is_object));
        }
    }

    #[allow(clippy::too_many_arguments)] // The parts of a frame.
    fn push(
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
        self.frames.push(Frame {
            ids,
            next: 0,
            kind,
            path_len,
            depth,
            overlong,
            leaves,
        });
    }

    /// The attributes that BUILD gave to a container.
    fn push_attributes(&mut self, id: Id, path_len: usize, depth: usize, overlong: bool) {
        if let Some(state) = self.objects.arena.attributes(id) {
            self.push_state(state, false, path_len, depth, overlong);
        }
    }

    /// The attributes in a state: a dict, or a pair of dicts where a class has slots.
    fn push_state(
        &mut self,
        state: Id,
        of_object: bool,
        path_len: usize,
        depth: usize,
        overlong: bool,
    ) {
        let arena = self.objects.arena;
        let mut pending = vec![state];
        while let Some(state) = pending.pop() {
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
    fn distinct(&self, dict: Id) -> Cow<'a, [Id]> {
        let Objects { arena, pickle } = self.objects;
        let pairs = arena.pairs(dict).unwrap_or(&[]);
        if pairs.len() <= 2 {
            return Cow::Borrowed(pairs);
        }
        let mut seen: HashMap<Key<'_>, usize> = HashMap::with_capacity(pairs.len() / 2);
        let mut kept: Option<Vec<Id>> = None;
        for (number, pair) in pairs.chunks_exact(2).enumerate() {
            let at = kept.as_ref().map_or(2 * number, Vec::len);
            match seen.entry(Key::of(arena, pickle, pair[0])) {
                Entry::Occupied(before) => {
                    let kept = kept.get_or_insert_with(|| pairs[..2 * number].to_vec());
                    kept[*before.get() + 1] = pair[1];
                }
                Entry::Vacant(free) => {
                    free.insert(at);
                    if let Some(kept) = &mut kept {
                        kept.extend_from_slice(pair);
                    }
                }
            }
        }
        kept.map_or(Cow::Borrowed(pairs), Cow::Owned)
    }

    /// Whether a node can hold tensors or is one.
    fn is_container(&self, id: Id) -> bool {
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

    fn is_module_dict(&self, key: Id, child: Id) -> bool {
        let Objects { arena, pickle } = self.objects;
        arena.pairs(child).is_some()
            && arena
                .string_bytes(pickle, key)
                .is_some_and(|key| MODULE_DICTS.contains(&key))
    }
}

/// # Paths
impl Walk<'_> {
    /// The name of the current path; a tensor that is the root itself is called `tensor`.
    fn name(&self, depth: usize) -> Cow<'static, str> {
        match depth {
            0 if !self.has_prefix => Cow::Borrowed("tensor"),
            _ => Cow::Owned(self.path.clone()),
        }
    }

    /// Puts a dot between what is there and a child of a container at this depth.
    fn push_dot(&mut self, depth: usize) {
        if depth > 0 || self.has_prefix {
            self.path.push('.');
        }
    }

    fn push_segment(&mut self, segment: &str, depth: usize) {
        self.push_dot(depth);
        self.path.push_str(segment);
    }

    fn push_position(&mut self, position: usize, depth: usize) {
        self.push_dot(depth);
        // Writing into a string cannot fail.
        let _ = write!(self.path, "{position}");
    }

    fn push_key(&mut self, key: Id, depth: usize) {
        let ceiling = self.limits.name_bytes.saturating_add(1);
        self.push_dot(depth);
        push_key_text(&self.objects, key, 0, ceiling, &mut self.path);
    }

    /// Cuts a path that is longer than names may be, and tells so.
    fn check_length(&mut self, path_len: usize) -> bool {
        let overlong = self.path.len() > self.limits.name_bytes;
        if overlong {
            self.path.truncate(path_len);
        }
        overlong
    }

    fn check_overlong(&self, overlong: bool) -> Result<(), Stop> {
        if overlong {
            return Err(Stop::Error(Error::Limit {
                what: "bytes of a tensor name",
                limit: self.limits.name_bytes as u64,
                found: self.limits.name_bytes as u64 + 1,
            }));
        }
        Ok(())
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

/// Writes a key as a part of a name: texts as they are, others as Python shows them.
pub(crate) fn push_key_text(
    objects: &Objects<'_>,
    key: Id,
    depth: usize,
    ceiling: usize,
    out: &mut String,
) {
    if out.len() > ceiling {
        return;
    }
    let Objects { arena, pickle } = *objects;
    // Writing into a string cannot fail.
    let _ = match arena.node(key) {
        Node::None => out.write_str("None"),
        Node::Bool(true) => out.write_str("True"),
        Node::Bool(false) => out.write_str("False"),
        Node::Int(value) => write!(out, "{value}"),
        Node::Float(value) => write!(out, "{value:?}"),
        Node::Text(span) | Node::Bytes(span) | Node::Str8(span) => {
            let bytes = arena.bytes(pickle, span);
            let within = &bytes[..bytes.len().min(ceiling)];
            out.write_str(&display_text(within))
        }
        Node::BigInt(_) | Node::BigText(_) => {
            out.write_str(&crate::state::decimal(objects, key).unwrap_or_default())
        }
        // Few keys are nested, and none deeply.
        Node::Tuple { start, len } if depth < 8 => {
            out.push('(');
            for (position, &item) in arena.members(start, len).iter().enumerate() {
                if position > 0 {
                    out.push_str(", ");
                }
                push_key_text(objects, item, depth + 1, ceiling, out);
            }
            out.write_str(if len == 1 { ",)" } else { ")" })
        }
        // Bytes, as protocols before 3 write them.
        Node::Object(_) if matches!(arena.as_object(key), Some((_, Known::Encode))) => {
            let text = crate::numpy::encoded_text(objects, key);
            let text = text.and_then(|text| arena.string_bytes(pickle, text));
            let mut bytes = Vec::new();
            let within = text.map_or(&[][..], |text| &text[..text.len().min(2 * ceiling)]);
            match crate::pickle::latin1_bytes(within, &mut bytes) {
                Some(()) => out.write_str(&display_text(&bytes)),
                None => out.write_str(&display_text(within)),
            }
        }
        _ => out.write_str(&arena.type_name(key)),
    };
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
}
