//! The objects of a pickle: an arena of small nodes that name each other by number.
//!
//! Containers hold numbers, so sharing and cycles are Python's own, nothing recurses, and
//! dropping ten thousand nested lists is dropping a few vectors.

use std::collections::HashMap;

use crate::pickle::globals::Known;

use super::budget::{DescriptionBudget, OutOfBudget};
use super::node::{Global, Id, Node, Object, Seq, Span};

/// All objects of one pickle.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
    /// The members of all tuples.
    members: Vec<Id>,
    seqs: Vec<Vec<Id>>,
    objects: Vec<Object>,
    globals: Vec<Global>,
    global_numbers: HashMap<(Box<str>, Box<str>), u32>,
    /// States that BUILD sets on containers.
    attributes: HashMap<Id, Id>,
    /// Containers that a call made, in the order of their ids, with the class and the arguments.
    origins: Vec<(Id, Id, Id)>,
    /// Text that had to be decoded.
    text: Vec<u8>,
    /// Where the arena's own text begins: the length of the pickle's bytes.
    text_start: u32,
    /// The budget for all of this.
    budget: DescriptionBudget,
}

/// The allocator's overhead for a separate run, in bytes.
const RUN_BYTES: u64 = 24;
/// The cost of a global in bytes, apart from the text of its two names.
const GLOBAL_BYTES: u64 = 240;

/// # The budget
impl Arena {
    pub(super) fn budget_mut(&mut self) -> &mut DescriptionBudget {
        &mut self.budget
    }

    /// Passes the rest of the budget to the next stage; no node can be made afterwards.
    pub(crate) fn take_budget(&mut self) -> DescriptionBudget {
        std::mem::take(&mut self.budget)
    }
}

/// # Making nodes
impl Arena {
    /// An arena whose spans lie in `pickle_len` bytes.
    pub(crate) fn new(pickle_len: u32, budget: DescriptionBudget) -> Self {
        let mut nodes = Vec::with_capacity(512);
        nodes.extend([
            Node::None,
            Node::Bool(true),
            Node::Bool(false),
            Node::Tuple { start: 0, len: 0 },
        ]);
        nodes.extend((0..=255).map(Node::Int));
        Self {
            nodes,
            text_start: pickle_len,
            budget,
            ..Self::default()
        }
    }

    /// Reserves about what a state dict needs, so that nothing moves while it is read; for
    /// unusually long pickles, only a part.
    pub(crate) fn expect_tensors(&mut self) -> Result<(), OutOfBudget> {
        let len = (self.text_start as usize).min(4 << 20);
        // Measured on state dicts as PyTorch writes them: short names make a node in 9 bytes and a
        // member in 5, longer ones in 14 and 8. Unused memory is never touched.
        self.budget.reserve(&mut self.nodes, len / 8)?;
        self.budget.reserve(&mut self.members, len / 4)?;
        // A tensor takes about 80 bytes or more.
        self.budget.reserve(&mut self.objects, len / 72)
    }

    pub(crate) fn push(&mut self, node: Node) -> Result<Id, OutOfBudget> {
        self.budget.reserve(&mut self.nodes, 1)?;
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        Ok(id)
    }

    pub(crate) fn tuple(&mut self, ids: &[Id]) -> Result<Id, OutOfBudget> {
        if ids.is_empty() {
            return Ok(Id::EMPTY_TUPLE);
        }
        self.budget.reserve(&mut self.members, ids.len())?;
        if self.members.len() + ids.len() > u32::MAX as usize {
            // More than a node can address, which takes a budget of 16 GiB.
            self.budget.charge(u64::MAX)?;
        }
        let start = self.members.len() as u32;
        self.members.extend_from_slice(ids);
        let len = ids.len() as u32;
        self.push(Node::Tuple { start, len })
    }

    /// Puts `ids` at the end of a run, which is made if it is the empty one.
    pub(crate) fn extend(&mut self, seq: Seq, ids: &[Id]) -> Result<Seq, OutOfBudget> {
        if ids.is_empty() {
            return Ok(seq);
        }
        let seq = if seq == Seq::EMPTY {
            self.budget.reserve(&mut self.seqs, 1)?;
            self.budget.charge(RUN_BYTES)?;
            self.seqs.push(Vec::default());
            Seq(self.seqs.len() as u32 - 1)
        } else {
            seq
        };
        let run = &mut self.seqs[seq.0 as usize];
        self.budget.reserve(run, ids.len())?;
        run.extend_from_slice(ids);
        Ok(seq)
    }

    pub(crate) fn object(&mut self, class: Id, args: Id) -> Result<Id, OutOfBudget> {
        self.budget.reserve(&mut self.objects, 1)?;
        let number = self.objects.len() as u32;
        self.objects.push(Object {
            class,
            args,
            state: None,
            earlier_states: Seq::EMPTY,
            list: Seq::EMPTY,
            dict: Seq::EMPTY,
        });
        self.push(Node::Object(number))
    }

    pub(crate) fn global(
        &mut self,
        module: &str,
        name: &str,
        known: Known,
    ) -> Result<Id, OutOfBudget> {
        let key = (Box::from(module), Box::from(name));
        if let Some(&number) = self.global_numbers.get(&key) {
            return self.push(Node::Global(number));
        }
        self.budget.reserve(&mut self.globals, 1)?;
        self.budget
            .charge(GLOBAL_BYTES + 2 * (module.len() + name.len()) as u64)?;
        let number = self.globals.len() as u32;
        self.globals.push(Global {
            module: module.into(),
            name: name.into(),
            known,
        });
        self.global_numbers.insert(key, number);
        self.push(Node::Global(number))
    }

    /// Keeps decoded text and returns its span.
    pub(crate) fn keep_text(&mut self, text: &[u8]) -> Result<Span, OutOfBudget> {
        self.budget.reserve(&mut self.text, text.len())?;
        let start = self.text.len() + self.text_start as usize;
        if u32::try_from(start + text.len()).is_err() {
            // More than a span can address.
            self.budget.charge(u64::MAX)?;
        }
        self.text.extend_from_slice(text);
        Ok(Span {
            start: start as u32,
            len: text.len() as u32,
        })
    }

    /// Replaces the growing runs of a container.
    pub(crate) fn set_node(&mut self, id: Id, node: Node) {
        self.nodes[id.index()] = node;
    }

    pub(crate) fn object_mut(&mut self, number: u32) -> &mut Object {
        &mut self.objects[number as usize]
    }

    /// Keeps what the newest container was made by.
    pub(crate) fn set_origin(
        &mut self,
        container: Id,
        class: Id,
        args: Id,
    ) -> Result<(), OutOfBudget> {
        // The empty tuple is one object, whatever made it.
        if container != Id::EMPTY_TUPLE {
            self.budget.reserve(&mut self.origins, 1)?;
            debug_assert!(
                self.origins
                    .last()
                    .is_none_or(|&(last, ..)| last < container)
            );
            self.origins.push((container, class, args));
        }
        Ok(())
    }

    /// Keeps the state of a container; a second one joins the first.
    pub(crate) fn attach(&mut self, container: Id, state: Id) -> Result<(), OutOfBudget> {
        self.budget.charge(4 * size_of::<(Id, Id)>() as u64)?;
        let state = match self.attributes.get(&container) {
            Some(&before) => self.tuple(&[before, state])?,
            None => state,
        };
        self.attributes.insert(container, state);
        Ok(())
    }
}

/// # Reading nodes
impl Arena {
    pub(crate) fn node(&self, id: Id) -> Node {
        self.nodes[id.index()]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn members(&self, start: u32, len: u32) -> &[Id] {
        &self.members[start as usize..][..len as usize]
    }

    pub(crate) fn seq(&self, seq: Seq) -> &[Id] {
        match seq {
            Seq::EMPTY => &[],
            Seq(number) => &self.seqs[number as usize],
        }
    }

    pub(crate) fn object_at(&self, number: u32) -> &Object {
        &self.objects[number as usize]
    }

    pub(crate) fn attributes(&self, id: Id) -> Option<Id> {
        // Nearly no pickle has any, so most lookups end here.
        if self.attributes.is_empty() {
            return None;
        }
        self.attributes.get(&id).copied()
    }

    /// The class and the arguments of a container that a call made.
    pub(crate) fn origin(&self, container: Id) -> Option<(Id, Id)> {
        let origins = &self.origins;
        let found = origins.binary_search_by_key(&container, |&(made, ..)| made);
        let (_, class, args) = origins[found.ok()?];
        Some((class, args))
    }

    pub(crate) fn global_at(&self, number: u32) -> &Global {
        &self.globals[number as usize]
    }

    /// The members of a tuple, list or set.
    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple { start, len } => Some(self.members(start, len)),
            Node::List(seq) | Node::Set(seq) => Some(self.seq(seq)),
            _ => None,
        }
    }

    pub(crate) fn tuple_items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple { start, len } => Some(self.members(start, len)),
            _ => None,
        }
    }

    /// The keys and values of a dict, alternating.
    pub(crate) fn pairs(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Dict(seq) => Some(self.seq(seq)),
            _ => None,
        }
    }

    /// All states that BUILD gave to an object, in the order of the pickle.
    pub(crate) fn states(&self, object: &Object) -> impl DoubleEndedIterator<Item = Id> {
        let earlier = self.seq(object.earlier_states).iter().copied();
        earlier.chain(object.state)
    }

    /// The class or function that a node names.
    pub(crate) fn as_global(&self, id: Id) -> Option<&Global> {
        match self.node(id) {
            Node::Global(number) => Some(self.global_at(number)),
            // A class of an old file that carries its source.
            Node::Persistent(pid) => match self.tuple_items(pid)? {
                [tag, class, ..] => match (self.node(*tag), self.node(*class)) {
                    (Node::Text(_) | Node::Str8(_) | Node::Bytes(_), Node::Global(number))
                    | (Node::Global(number), _) => {
                        let global = self.global_at(number);
                        // With a storage type in it, this form is a storage.
                        (!matches!(global.known, Known::Storage(_))).then_some(global)
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn known(&self, id: Id) -> Known {
        self.as_global(id)
            .map_or(Known::Unknown, |global| global.known)
    }

    /// The object that a node represents, and what its callable means.
    pub(crate) fn as_object(&self, id: Id) -> Option<(&Object, Known)> {
        match self.node(id) {
            Node::Object(number) => {
                let object = self.object_at(number);
                Some((object, self.known(object.class)))
            }
            _ => None,
        }
    }

    pub(crate) fn as_int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(value),
            Node::Bool(value) => Some(i64::from(value)),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self, id: Id) -> Option<bool> {
        match self.node(id) {
            Node::Bool(value) => Some(value),
            Node::Int(value) => Some(value != 0),
            _ => None,
        }
    }

    /// What kind of object it is, for messages.
    pub(crate) fn type_name(&self, id: Id) -> String {
        match self.node(id) {
            Node::Object(number) => match self.as_global(self.object_at(number).class) {
                Some(global) => global.path(),
                None => "object".to_owned(),
            },
            Node::Global(number) => format!("the name {}", self.global_at(number).path()),
            node => node.kind().to_owned(),
        }
    }

    /// The bytes of a span, in the pickle or in the arena's own text.
    pub(crate) fn bytes<'a>(&'a self, pickle: &'a [u8], span: Span) -> &'a [u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        match start.checked_sub(self.text_start as usize) {
            None => &pickle[start..][..len],
            Some(own) => &self.text[own..][..len],
        }
    }

    /// The bytes of a string of any kind.
    pub(crate) fn string_bytes<'a>(&'a self, pickle: &'a [u8], id: Id) -> Option<&'a [u8]> {
        match self.node(id) {
            Node::Text(span) | Node::Str8(span) | Node::Bytes(span) => {
                Some(self.bytes(pickle, span))
            }
            _ => None,
        }
    }

    /// Whether a span lies in the pickle as it is.
    pub(crate) fn is_raw(&self, span: Span) -> bool {
        span.start < self.text_start
    }

    /// All nodes, in the order they were made.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len() as u32).map(Id)
    }
}
