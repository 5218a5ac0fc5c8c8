//! Access to single objects, for callers that build their own.

use tensorlift_tensor_meta::Entry;

use crate::pickle::{Id, Node};
use crate::tensors::objects::Objects;
use crate::tensors::text::decimal;

use super::State;

/// Names an object of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId(pub(super) Id);

/// A Python object, as the pickle describes it; the parts of containers are named, not nested, so
/// that sharing and cycles can be rebuilt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part<'a> {
    /// `None`.
    None,
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// An `int` beyond `i64`, in decimal digits.
    BigInt(String),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Text(&'a str),
    /// A `str` with lone surrogates, in UTF-8 that has them (Python's `surrogatepass`).
    Surrogates(&'a [u8]),
    /// `bytes`, or a `str` of Python 2, where [`is_text`](Part::Bytes::is_text) is set.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether Python 2 wrote it as a `str`.
        is_text: bool,
    },
    /// A `tuple`.
    Tuple(Vec<ObjectId>),
    /// A `list`.
    List(Vec<ObjectId>),
    /// A set, of the class that [`State::class_of`] names, else a `set`.
    Set(Vec<ObjectId>),
    /// A mapping, of the class that [`State::class_of`] names, else a `dict`; keys and values, in
    /// the order in which they were added, equal keys included.
    Dict(Vec<(ObjectId, ObjectId)>),
    /// A class or function.
    Global {
        /// Its module.
        module: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A reference outside the pickle: a storage, by this tuple or text.
    Persistent(ObjectId),
    /// The result of a call that is not made.
    Object(CallPart),
}

/// A call, and what was added to its result later.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CallPart {
    /// What was called.
    pub class: ObjectId,
    /// The tuple of its arguments.
    pub args: ObjectId,
    /// States that were set on it (`__setstate__`), in order.
    pub states: Vec<ObjectId>,
    /// Items that were appended to it.
    pub items: Vec<ObjectId>,
    /// Keys and values that were set in it.
    pub pairs: Vec<(ObjectId, ObjectId)>,
}

/// # Object by object
impl State {
    /// The object that the file holds.
    #[must_use]
    pub fn root(&self) -> ObjectId {
        ObjectId(self.root)
    }

    /// The object with this id.
    #[must_use]
    pub fn part(&self, id: ObjectId) -> Part<'_> {
        let arena = &self.arena;
        match arena.node(id.0) {
            Node::None => Part::None,
            Node::Bool(value) => Part::Bool(value),
            Node::Int(value) => Part::Int(value),
            Node::Float(value) => Part::Float(value),
            Node::BigInt(_) | Node::BigText(_) => {
                Part::BigInt(decimal(&self.objects(), id.0).unwrap_or_default())
            }
            Node::Text(span) => {
                let bytes = arena.bytes(&self.pickle, span);
                std::str::from_utf8(bytes).map_or(Part::Surrogates(bytes), Part::Text)
            }
            Node::Bytes(span) | Node::Str8(span) => Part::Bytes {
                bytes: arena.bytes(&self.pickle, span),
                is_text: matches!(arena.node(id.0), Node::Str8(_)),
            },
            Node::Tuple { start, len } => Part::Tuple(ids(arena.members(start, len))),
            Node::List(seq) => Part::List(ids(arena.seq(seq))),
            Node::Set(seq) => Part::Set(ids(arena.seq(seq))),
            Node::Dict(seq) => Part::Dict(pairs(arena.seq(seq))),
            Node::Global(number) => {
                let global = arena.global_at(number);
                Part::Global {
                    module: &global.module,
                    name: &global.name,
                }
            }
            Node::Persistent(pid) => Part::Persistent(ObjectId(pid)),
            Node::Object(number) => {
                let object = arena.object_at(number);
                Part::Object(CallPart {
                    class: ObjectId(object.class),
                    args: ObjectId(object.args),
                    states: arena.states(object).map(ObjectId).collect(),
                    items: ids(arena.seq(object.list)),
                    pairs: pairs(arena.seq(object.dict)),
                })
            }
        }
    }

    /// The class of a dict, list or set and the arguments of its constructor, unless it is the
    /// built-in class: `collections.OrderedDict`, `frozenset`.
    #[must_use]
    pub fn class_of(&self, container: ObjectId) -> Option<(ObjectId, ObjectId)> {
        let (class, args) = self.arena.origin(container.0)?;
        Some((ObjectId(class), ObjectId(args)))
    }

    /// The state that was set on a container: `_metadata` and other attributes of an `OrderedDict`.
    #[must_use]
    pub fn attributes_of(&self, container: ObjectId) -> Option<ObjectId> {
        self.arena.attributes(container.0).map(ObjectId)
    }

    /// The tensors, each with its first entry in the file's catalog.
    pub fn tensors(&self) -> impl Iterator<Item = (ObjectId, &Entry)> {
        let catalog = self.names.catalog.entries();
        let entries = self.names.entries.iter();
        entries.filter_map(|&(id, entry)| Some((ObjectId(id), catalog.get(entry as usize)?)))
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            arena: &self.arena,
            pickle: &self.pickle,
        }
    }
}

fn ids(ids: &[Id]) -> Vec<ObjectId> {
    ids.iter().copied().map(ObjectId).collect()
}

fn pairs(flat: &[Id]) -> Vec<(ObjectId, ObjectId)> {
    let pairs = flat.chunks_exact(2);
    pairs
        .map(|pair| (ObjectId(pair[0]), ObjectId(pair[1])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, read};
    use tensorlift_storage::MemoryStorage;

    #[test]
    fn containers_keep_their_class_their_order_and_their_attributes() {
        // OrderedDict([("b", 1), ("a", frozenset([2]))]) with the attribute {"v": None}, as
        // Python's protocol 2 writes it.
        let pickle: &[u8] = b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00bK\x01\
            X\x01\x00\x00\x00ac__builtin__\nfrozenset\n]K\x02a\x85Ru}X\x01\x00\x00\x00vNsb.";
        let storage = MemoryStorage::new(pickle);
        let (_, state) = read(&storage, &ReadOptions::default())
            .unwrap()
            .into_parts();
        let root = state.root();
        let name = |id| match state.part(id) {
            Part::Global { name, .. } => name.to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(name(state.class_of(root).unwrap().0), "OrderedDict");
        let Part::Dict(pairs) = state.part(root) else {
            panic!("no dict");
        };
        let keys: Vec<Part<'_>> = pairs.iter().map(|&(key, _)| state.part(key)).collect();
        assert_eq!(keys, [Part::Text("b"), Part::Text("a")]);
        assert_eq!(state.part(pairs[0].1), Part::Int(1));
        assert_eq!(name(state.class_of(pairs[1].1).unwrap().0), "frozenset");
        assert!(matches!(state.part(pairs[1].1), Part::Set(items) if items.len() == 1));
        let attributes = state.attributes_of(root).unwrap();
        assert!(matches!(state.part(attributes), Part::Dict(pairs) if pairs.len() == 1));
        assert_eq!(state.class_of(attributes), None);
    }
    #[test]
    fn one_empty_tuple_has_no_class_whatever_made_it() {
        // (tuple(), ()), of which the first is the result of a call.
        let pickle: &[u8] = b"\x80\x02c__builtin__\ntuple\n)R)\x86.";
        let storage = MemoryStorage::new(pickle);
        let (_, state) = read(&storage, &ReadOptions::default())
            .unwrap()
            .into_parts();
        let Part::Tuple(items) = state.part(state.root()) else {
            panic!("no tuple");
        };
        assert_eq!(items[0], items[1]);
        assert_eq!(state.class_of(items[0]), None);
    }
}
