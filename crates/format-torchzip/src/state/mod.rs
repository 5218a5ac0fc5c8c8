//! The non-tensor contents of a checkpoint, as plain values.

mod part;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_pickle::Value;
use tensorlift_storage::Anonymous;
use tensorlift_tensor_meta::Catalog;

use crate::error::Result;
use crate::pickle::{Arena, Id, Node};
use crate::tensors::objects::Objects;
use crate::tensors::text::push_key_text;

use values::ValueBuilder;

pub use part::{CallPart, ObjectId, Part};

/// The memory for finding a tensor's name by its object, in bytes.
const NAME_BYTES: u64 = 96;

/// The objects of a file's pickle.
///
/// They become a [`serde_pickle::Value`] only when asked for, so a checkpoint of many tensors
/// opens without building a value for each.
pub struct State {
    arena: Arena,
    pickle: Anonymous,
    root: Id,
    names: FirstNames,
    /// The objects that a value may have, and the memory for it.
    nodes: usize,
    memory: u64,
}

/// The first entry of each tensor object, by its place in the catalog.
#[derive(Debug)]
pub(crate) struct FirstNames {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) entries: Vec<(Id, u32)>,
}

impl State {
    pub(crate) fn new(
        arena: Arena,
        pickle: Anonymous,
        root: Id,
        names: FirstNames,
        nodes: usize,
        spare: u64,
    ) -> Self {
        let memory = spare.saturating_sub(names.entries.len() as u64 * NAME_BYTES);
        Self {
            arena,
            pickle,
            root,
            names,
            nodes,
            memory,
        }
    }

    /// Everything in the file but the bytes of tensors.
    ///
    /// - A tensor is `{"$tensor": name}`, with its name in the catalog; quantized ones have
    ///   `scale` and `zero_point` beside it, sparse ones are a dict of their parts.
    /// - An object of a class that is not plain data is a dict of its attributes and items, with
    ///   its class under `"$class"`, the arguments of its constructor under `"$args"`, and items of a
    ///   list under `"$items"`.
    /// - Dtypes, devices, layouts, paths and decimals are their texts, complex numbers pairs,
    ///   NumPy scalars numbers.
    /// - Integers beyond `i64` are decimal text, since serde could not pass them on.
    /// - A reference back to an object that encloses it is `{"$cycle": type}`.
    /// - A key that cannot be a key of a value, such as an object, is its text.
    ///
    /// # Errors
    /// If the value is nested more than 256 deep, or shared references make it larger than the
    /// limits allow.
    pub fn value(&self) -> Result<Value> {
        let names = self.names.by_id();
        let objects = Objects {
            arena: &self.arena,
            pickle: &self.pickle,
        };
        ValueBuilder::new(objects, &names, self.nodes, self.memory).value(self.root)
    }

    /// What the root object is, in a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        let objects = Objects {
            arena: &self.arena,
            pickle: &self.pickle,
        };
        summary(&objects, self.root)
    }
}

/// Briefly, since it may be long.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({})", self.summary())
    }
}

/// What an object is, in a few words.
fn summary(objects: &Objects<'_>, root: Id) -> String {
    let arena = objects.arena;
    match arena.node(root) {
        Node::Dict(seq) => {
            let pairs = arena.seq(seq);
            let mut text = match pairs.len() / 2 {
                0 => return "an empty dict".to_owned(),
                1 => "a dict with the key ".to_owned(),
                count => format!("a dict with {count} keys: "),
            };
            for (number, pair) in pairs.chunks_exact(2).take(5).enumerate() {
                if number > 0 {
                    text.push_str(", ");
                }
                let mut key = String::new();
                push_key_text(objects, pair[0], 0, 60, &mut key);
                text.push_str(&format!("{key:?}"));
            }
            if pairs.len() > 10 {
                text.push_str(", …");
            }
            text
        }
        Node::List(seq) => format!("a list of {} items", arena.seq(seq).len()),
        Node::Set(seq) => format!("a set of {} items", arena.seq(seq).len()),
        Node::Tuple { len, .. } => format!("a tuple of {len} items"),
        Node::Object(_) => format!("an object of {}", arena.type_name(root)),
        Node::None => "None".to_owned(),
        Node::Global(_) => arena.type_name(root),
        node => format!("a value of type {}", node.kind()),
    }
}

impl FirstNames {
    fn by_id(&self) -> HashMap<Id, &str> {
        let mut names = HashMap::with_capacity(self.entries.len());
        for &(id, entry) in &self.entries {
            if let Some(entry) = self.catalog.entries().get(entry as usize) {
                names.entry(id).or_insert(entry.name());
            }
        }
        names
    }
}
