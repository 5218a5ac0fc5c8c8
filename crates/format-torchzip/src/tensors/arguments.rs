//! The arguments of rebuild functions: storages, dtypes, sizes.

use crate::error::TensorProblem;
use crate::pickle::globals::{Known, TorchDtype};
use crate::pickle::{Id, Node};

use super::rebuild::{Described, Objects, Sizes, StorageId};

/// # Arguments
impl<'a> Objects<'a> {
    /// The storage that an object names.
    pub(crate) fn storage_id(&self, pid: Id) -> Described<StorageId<'a>> {
        let function = "a persistent id";
        if let Node::Str8(span) = self.arena.node(pid) {
            let text = self.arena.bytes(self.pickle, span);
            return printed_storage_id(text)
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
        let key = self
            .arena
            .string_bytes(self.pickle, key)
            .ok_or_else(|| self.argument(function, "a key", &[key]))?;
        let view = match rest.first().copied().filter(|&view| view != Id::NONE) {
            None => None,
            Some(view) => match self.arena.tuple_items(view) {
                Some(&[_key, offset, len]) => Some((
                    self.count("a view's offset", offset)?,
                    self.count("a view's length", len)?,
                )),
                _ => return Err(self.argument(function, "a view of three parts", &[view])),
            },
        };
        Ok(StorageId {
            kind,
            key,
            elements: self.count("a storage's length", elements)?,
            view,
        })
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

    pub(super) fn args<'l>(
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

    pub(super) fn flag(&self, id: Id) -> bool {
        self.arena.as_bool(id).unwrap_or(false)
    }
}

/// The storage that a persistent id of protocol 0 names: there it is Python's print of the tuple,
/// as in `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 6)`.
fn printed_storage_id(text: &[u8]) -> Option<StorageId<'_>> {
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
    Some(StorageId {
        kind,
        key: key.as_bytes(),
        elements: elements.parse().ok()?,
        view: None,
    })
}
