//! Results of calls: containers for the few classes that are containers, an inert record for every
//! other.

use super::arena::Arena;
use super::globals::Known;
use super::node::{Id, Node, Seq};
use super::problem::PickleProblem;

type Made<T> = Result<T, PickleProblem>;

/// # Calls
impl Arena {
    /// The result of calling `callable` with the tuple `args`.
    pub(super) fn reduce(&mut self, callable: Id, args: Id) -> Made<Id> {
        match (self.known(callable), self.tuple_items(args)) {
            (Known::Annotate, Some([value, ..])) => Ok(*value),
            // copyreg.__newobj__(cls, *args) is equivalent to NEWOBJ.
            (Known::NewObj, Some([class, rest @ ..])) => {
                let (class, rest) = (*class, rest.to_vec());
                let args = self.tuple(&rest)?;
                self.new_object(class, args)
            }
            (Known::NewObjEx, Some(&[class, args, kwargs])) => {
                let id = self.new_object(class, args)?;
                self.keyword_arguments(id, kwargs)?;
                Ok(id)
            }
            (Known::Reconstructor, Some(&[class, base, value])) => {
                self.reconstruct(class, base, value)
            }
            _ => self.new_object(callable, args),
        }
    }

    /// The result of `copyreg._reconstructor`: of classes that pickle as protocol 0 did.
    fn reconstruct(&mut self, class: Id, base: Id, value: Id) -> Made<Id> {
        if self.known(base) == Known::Dict && self.known(class) == Known::Unknown {
            let id = self.object(class, Id::EMPTY_TUPLE)?;
            self.keyword_arguments(id, value)?;
            return Ok(id);
        }
        let args = match self.node(value) {
            Node::None => Id::EMPTY_TUPLE,
            _ => self.tuple(&[value])?,
        };
        self.new_object(class, args)
    }

    /// An object of `class`, made with the tuple `args`.
    pub(super) fn new_object(&mut self, class: Id, args: Id) -> Made<Id> {
        let Some(list) = self.tuple_items(args) else {
            return Err(PickleProblem::Target {
                opcode: "REDUCE",
                found: format!("{} in place of an argument tuple", self.type_name(args)),
            });
        };
        let (first, second) = (list.first().copied(), list.get(1).copied());
        let made = match self.known(class) {
            Known::Dict | Known::OrderedDict | Known::Counter => self.dict_of(first)?,
            Known::DefaultDict => self.dict_of(second)?,
            Known::List => self.run_of(first, Node::List)?,
            Known::Set => self.run_of(first, Node::Set)?,
            Known::Tuple => self.tuple_of(first)?,
            _ => None,
        };
        match made {
            Some(id) => {
                self.set_origin(id, class, args)?;
                Ok(id)
            }
            None => Ok(self.object(class, args)?),
        }
    }

    /// Adds the keyword arguments of an object's constructor: they are kept like items of a dict.
    pub(super) fn keyword_arguments(&mut self, id: Id, kwargs: Id) -> Made<()> {
        let Some(pairs) = self.pairs(kwargs).map(<[Id]>::to_vec) else {
            return match self.node(kwargs) {
                Node::None => Ok(()),
                _ => Err(PickleProblem::Target {
                    opcode: "NEWOBJ_EX",
                    found: format!("{} in place of keyword arguments", self.type_name(kwargs)),
                }),
            };
        };
        match self.node(id) {
            Node::Object(number) => {
                let seq = self.object_at(number).dict;
                self.object_mut(number).dict = self.extend(seq, &pairs)?;
            }
            Node::Dict(seq) => {
                let seq = self.extend(seq, &pairs)?;
                self.set_node(id, Node::Dict(seq));
            }
            _ => {}
        }
        Ok(())
    }

    /// Sets the state of `target`.
    pub(super) fn build(&mut self, target: Id, state: Id) -> Made<()> {
        match self.node(target) {
            Node::Object(number) => {
                if let Some(before) = self.object_mut(number).state.replace(state) {
                    let seq = self.object_at(number).earlier_states;
                    self.object_mut(number).earlier_states = self.extend(seq, &[before])?;
                }
            }
            Node::Dict(_)
            | Node::List(_)
            | Node::Set(_)
            | Node::Persistent(_)
            | Node::Global(_) => self.attach(target, state)?,
            _ => {
                return Err(PickleProblem::Target {
                    opcode: "BUILD",
                    found: self.type_name(target),
                });
            }
        }
        Ok(())
    }

    /// Has the effect of the call `setter(target, state)`, the sixth item of `__reduce__`.
    pub(super) fn set_state(&mut self, dropped: Id) -> Made<()> {
        let Some((object, Known::Unknown)) = self.as_object(dropped) else {
            return Ok(());
        };
        match self.tuple_items(object.args) {
            Some(&[target, state]) if matches!(self.node(target), Node::Object(_)) => {
                self.build(target, state)
            }
            _ => Ok(()),
        }
    }

    /// A dict of the pairs in `from`: a dict, or a list of pairs as Python 2 wrote ordered dicts.
    /// `None` where `from` is neither.
    fn dict_of(&mut self, from: Option<Id>) -> Made<Option<Id>> {
        let mut flat = Vec::new();
        if let Some(from) = from {
            if let Some(pairs) = self.pairs(from) {
                flat.extend_from_slice(pairs);
            } else if let Some(items) = self.items(from) {
                for &item in items {
                    match self.items(item) {
                        Some([key, value]) => flat.extend([*key, *value]),
                        _ => return Ok(None),
                    }
                }
            } else if self.node(from) != Node::None {
                return Ok(None);
            }
        }
        let seq = self.extend(Seq::EMPTY, &flat)?;
        Ok(Some(self.push(Node::Dict(seq))?))
    }

    /// A list or set of the items of `from`; `None` where it has none.
    fn run_of(&mut self, from: Option<Id>, node: fn(Seq) -> Node) -> Made<Option<Id>> {
        let ids = match from.map(|from| self.items(from)) {
            None => Vec::new(),
            Some(Some(ids)) => ids.to_vec(),
            Some(None) => return Ok(None),
        };
        let seq = self.extend(Seq::EMPTY, &ids)?;
        Ok(Some(self.push(node(seq))?))
    }

    /// The same as a tuple.
    fn tuple_of(&mut self, from: Option<Id>) -> Made<Option<Id>> {
        let ids = match from.map(|from| self.items(from)) {
            None => Vec::new(),
            Some(Some(ids)) => ids.to_vec(),
            Some(None) => return Ok(None),
        };
        Ok(Some(self.tuple(&ids)?))
    }
}
