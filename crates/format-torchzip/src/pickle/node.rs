//! The nodes of an arena.

use super::globals::Known;

/// Names a node of its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(super) u32);

impl Id {
    pub(crate) const NONE: Id = Id(0);
    pub(crate) const TRUE: Id = Id(1);
    pub(crate) const FALSE: Id = Id(2);
    pub(crate) const EMPTY_TUPLE: Id = Id(3);
    /// No node has this number.
    pub(crate) const NOWHERE: Id = Id(u32::MAX);

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// One of the integers that every arena holds from the start.
    pub(crate) const fn small(value: u8) -> Id {
        Id(4 + value as u32)
    }
}

/// A run of bytes: in the pickle, or past its end in the arena's own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// A Python object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer beyond `i64`: little-endian two's complement.
    BigInt(Span),
    /// An integer beyond `i64`: decimal digits.
    BigText(Span),
    /// UTF-8, lone surrogates included.
    Text(Span),
    Bytes(Span),
    /// A `str` of Python 2, which may be bytes or text.
    Str8(Span),
    Tuple {
        start: u32,
        len: u32,
    },
    List(Seq),
    Set(Seq),
    /// Keys and values, alternating.
    Dict(Seq),
    Global(u32),
    Persistent(Id),
    Object(u32),
}

/// Names a growing run of ids; empty ones cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seq(pub(super) u32);

impl Seq {
    pub(crate) const EMPTY: Seq = Seq(u32::MAX);
}

/// A class or function, by name alone.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    pub(crate) module: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) known: Known,
}

impl Global {
    /// The dotted name.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.module, self.name)
    }
}

/// The result of a call that is not made: the callable, its arguments, and what was added later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) class: Id,
    pub(crate) args: Id,
    /// The state of the last BUILD, and those of earlier ones.
    pub(crate) state: Option<Id>,
    pub(crate) earlier_states: Seq,
    pub(crate) list: Seq,
    pub(crate) dict: Seq,
}

impl Node {
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "bool",
            Node::Int(_) | Node::BigInt(_) | Node::BigText(_) => "int",
            Node::Float(_) => "float",
            Node::Text(_) | Node::Str8(_) => "str",
            Node::Bytes(_) => "bytes",
            Node::Tuple { .. } => "tuple",
            Node::List(_) => "list",
            Node::Set(_) => "set",
            Node::Dict(_) => "dict",
            Node::Global(_) => "class or function",
            Node::Persistent(_) => "storage",
            Node::Object(_) => "object",
        }
    }
}
