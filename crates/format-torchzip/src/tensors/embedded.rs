//! Storages within a pickle: whole legacy files as byte strings, which is how a tensor looks
//! when it was pickled without `torch.save`.

use tensorlift_tensor_meta::{Limits, ShardId};

use crate::container::storages::Storages;
use crate::container::{LayoutProblem, legacy};
use crate::error::{Error, Result};
use crate::pickle::globals::StorageType;
use crate::pickle::{DescriptionBudget, Node};
use crate::tensors::objects::Objects;

/// A storage found in the bytes of a legacy file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded {
    pub(crate) kind: StorageType,
    /// Where its bytes begin, counted from the start of the legacy file.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Finds the one storage in the bytes of a legacy file.
pub(crate) fn read(bytes: &[u8], limits: &Limits, budget: &DescriptionBudget) -> Result<Embedded> {
    let wrong = |found: &str| {
        Error::Layout(LayoutProblem::NoStorage {
            found: found.to_owned(),
        })
    };
    // The objects are dropped when the storage is found.
    let own = budget.clone();
    let file = legacy::parse(bytes, bytes.len() as u64, ShardId::FIRST, limits, own)?;
    let objects = Objects {
        arena: &file.arena,
        pickle: bytes,
    };
    let Node::Persistent(pid) = file.arena.node(file.root) else {
        return Err(wrong(&file.arena.type_name(file.root)));
    };
    let id = objects
        .named_storage(pid)
        .map_err(|problem| wrong(&problem.to_string()))?;
    let storages = Storages::Legacy(file.storages);
    let found = storages
        .find(&id, 0)
        .map_err(|problem| wrong(&problem.to_string()))?;
    let Storages::Legacy(table) = &storages else {
        return Err(wrong("none"));
    };
    let place = table.by_key.get(id.key).copied().unwrap_or(0);
    let offset = table.extents.get(place).map_or(0, |extent| extent.offset);
    Ok(Embedded {
        kind: id.kind,
        offset: offset + found.base,
        len: found.len,
    })
}
