//! The objects of one pickle, read as the arguments of PyTorch's functions.

use smallvec::SmallVec;

use crate::pickle::globals::{Known, StorageType, TorchDtype};
use crate::pickle::{Arena, Id, Node};
use crate::tensors::TensorProblem;

pub(crate) type Described<T> = Result<T, TensorProblem>;

/// A size or a stride for each dimension; of one or two without an allocation, as nearly all are.
pub(crate) type Sizes = SmallVec<[usize; 2]>;

/// The objects of one pickle, and the bytes their texts lie in.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) pickle: &'a [u8],
}

/// The storage that a persistent id names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedStorage<'a> {
    pub(crate) kind: StorageType,
    pub(crate) key: &'a [u8],
    /// In elements of `kind`; bytes for untyped storages.
    pub(crate) elements: u64,
    /// A part of the storage that counts as a separate storage.
    pub(crate) view: Option<StorageView<'a>>,
}

/// A part of a storage, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorageView<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// # Arguments
impl<'a> Objects<'a> {
    /// The storage that an object names.
    pub(crate) fn named_storage(&self, pid: Id) -> Described<NamedStorage<'a>> {
        let function = "a persistent id";
        if let Node::Str8(span) = self.arena.node(pid) {
            let text = self.arena.bytes(self.pickle, span);
            return printed_storage(text)
                .ok_or_else(|| self.argument(function, "a storage", &[pid]));
        }
        let list = self
            .arena
            .tuple_items(pid)
            .ok_or_else(|| self.argument(function, "a tuple", &[pid]))?;
        let &[tag, kind, key, _location, elements, ref rest @ ..] = list else {
            return Err(self.argument(function, "a storage", &[pid]));
        };
        if self.arena.string_bytes(self.pickle, tag) != Some(b"storage") {
            return Err(self.argument(function, "'storage'", &[tag]));
        }
        let kind = match self.arena.known(kind) {
            Known::Storage(kind) => kind,
            _ => {
                let found = self.arena.type_name(kind);
                return Err(TensorProblem::Dtype { found });
            }
        };
        let view = match rest.first().copied().filter(|&view| view != Id::NONE) {
            None => None,
            Some(view) => match self.arena.tuple_items(view) {
                Some(&[key, offset, len]) => Some(StorageView {
                    key: self.storage_key(key)?,
                    offset: self.count("a view's offset", offset)?,
                    len: self.count("a view's length", len)?,
                }),
                _ => return Err(self.argument(function, "a view of three parts", &[view])),
            },
        };
        let key = self.storage_key(key)?;
        Ok(NamedStorage {
            kind,
            key,
            elements: self.count("a storage's length", elements)?,
            view,
        })
    }

    /// The key of a storage: a text. The bytes `b'0'` are another key than `'0'`, under which
    /// PyTorch finds nothing.
    pub(crate) fn storage_key(&self, key: Id) -> Described<&'a [u8]> {
        match self.arena.node(key) {
            Node::Text(span) | Node::Str8(span) => Ok(self.arena.bytes(self.pickle, span)),
            _ => Err(self.argument("a persistent id", "a text as the storage's key", &[key])),
        }
    }

    pub(crate) fn dtype(&self, id: Id) -> Described<TorchDtype> {
        match self.arena.known(id) {
            Known::Dtype(dtype) => Ok(dtype),
            _ => Err(TensorProblem::Dtype {
                found: self.arena.type_name(id),
            }),
        }
    }

    pub(crate) fn count(&self, expected: &'static str, id: Id) -> Described<u64> {
        self.arena
            .as_int(id)
            .and_then(|value| u64::try_from(value).ok())
            .ok_or_else(|| self.argument("a rebuild function", expected, &[id]))
    }

    /// A tuple of sizes, `torch.Size` included.
    pub(crate) fn sizes(&self, expected: &'static str, id: Id) -> Described<Sizes> {
        let id = match self.arena.as_object(id) {
            Some((object, Known::Size)) => match self.arena.tuple_items(object.args) {
                Some(&[sizes]) => sizes,
                _ => Id::EMPTY_TUPLE,
            },
            _ => id,
        };
        let items = self
            .arena
            .items(id)
            .ok_or_else(|| self.argument("a rebuild function", expected, &[id]))?;
        let mut sizes = Sizes::from_elem(0, items.len());
        for (size, &item) in sizes.iter_mut().zip(items) {
            let found = self.arena.as_int(item);
            *size = found
                .and_then(|found| usize::try_from(found).ok())
                .ok_or_else(|| self.argument("a rebuild function", expected, &[item]))?;
        }
        Ok(sizes)
    }

    pub(crate) fn args<'l>(
        &self,
        function: &'static str,
        expected: &'static str,
        list: &'l [Id],
        least: usize,
    ) -> Described<&'l [Id]> {
        if list.len() < least {
            return Err(self.argument(function, expected, list));
        }
        Ok(list)
    }

    pub(crate) fn argument(
        &self,
        function: &'static str,
        expected: &'static str,
        found: &[Id],
    ) -> TensorProblem {
        let found = match found {
            [one] => self.describe(*one),
            many => format!("{} arguments", many.len()),
        };
        TensorProblem::Argument {
            function,
            expected,
            found,
        }
    }

    fn describe(&self, id: Id) -> String {
        match self.arena.node(id) {
            Node::Int(value) => value.to_string(),
            _ => self.arena.type_name(id),
        }
    }

    pub(crate) fn flag(&self, id: Id) -> bool {
        self.arena.as_bool(id).unwrap_or(false)
    }
}

/// The storage that a persistent id of protocol 0 names: there it is Python's print of the tuple,
/// as in `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 6)`.
fn printed_storage(text: &[u8]) -> Option<NamedStorage<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let (class, rest) = text
        .strip_prefix("('storage', <class '")?
        .split_once("'>, '")?;
    let (key, rest) = rest.split_once("', '")?;
    let (_location, rest) = rest.split_once("', ")?;
    let elements = rest.strip_suffix(')')?;
    let elements = elements.strip_suffix(", None").unwrap_or(elements);
    let (module, name) = class.rsplit_once('.')?;
    let Known::Storage(kind) = Known::of(module, name) else {
        return None;
    };
    Some(NamedStorage {
        kind,
        key: key.as_bytes(),
        elements: elements.parse().ok()?,
        view: None,
    })
}
