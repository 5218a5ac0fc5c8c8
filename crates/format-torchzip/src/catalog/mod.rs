//! From the objects of a pickle to a catalog: [`naming`] finds the tensors and their paths,
//! [`cataloger`] turns each into an entry and its record.

mod cataloger;
mod embedded_records;
mod naming;
mod records;
pub(crate) mod roots;
mod shape;
mod ties;
mod tree;

use tensorlift_tensor_meta::{Catalog, Limits};

use crate::error::{Error, Result};
use crate::pickle::{DescriptionBudget, Id};

use cataloger::{Cataloger, TreeCataloger};
use naming::{Sharing, Stop, Walk};
use roots::Root;

pub(crate) use tree::Tree;

pub use ties::{Tie, ties};

/// What a file lists.
pub(crate) struct FileCatalog {
    pub(crate) catalog: Catalog,
    /// The first entry of each tensor object of the first tree.
    pub(crate) first_names: Vec<(Id, u32)>,
    /// Containers that hold tensors, in the order in which the walk left them.
    pub(crate) roots: Vec<Root>,
    /// Whether shared containers were entered only once.
    pub(crate) aliases_omitted: bool,
    /// What is left of the budget.
    pub(crate) budget: DescriptionBudget,
}

/// Lists the tensors of some trees.
///
/// A container that several paths lead to is listed along each of them. If that crosses a limit,
/// listing starts over and enters each container once: every tensor is still listed, under its
/// first name.
pub(crate) fn list(
    trees: &[Tree<'_>],
    limits: &Limits,
    budget: DescriptionBudget,
) -> Result<FileCatalog> {
    match list_with(trees, limits, budget.clone(), Sharing::EveryPath) {
        Err(Stop::TooManyPaths | Stop::Error(Error::Limit { .. })) => {}
        Err(Stop::Error(error)) => return Err(error),
        Ok(listed) => return Ok(listed),
    }
    list_with(trees, limits, budget, Sharing::FirstPath).map_err(|stop| match stop {
        Stop::Error(error) => error,
        Stop::TooManyPaths => Error::Limit {
            what: "paths to tensors",
            limit: limits.expanded_nodes as u64,
            found: limits.expanded_nodes as u64 + 1,
        },
    })
}

fn list_with(
    trees: &[Tree<'_>],
    limits: &Limits,
    budget: DescriptionBudget,
    sharing: Sharing,
) -> Result<FileCatalog, Stop> {
    let mut cataloger = Cataloger::new(limits, budget);
    let mut roots = Vec::new();
    for (number, tree) in trees.iter().enumerate() {
        let mut walk = Walk::new(tree, limits, sharing, cataloger.len());
        let mut entries = TreeCataloger::new(&mut cataloger, tree, number == 0);
        while let Some((tensor, content)) = walk.next()? {
            entries.add(&tensor, content)?;
        }
        roots.append(&mut walk.into_roots());
    }
    let (catalog, first_names, budget) = cataloger.finish();
    Ok(FileCatalog {
        catalog,
        first_names,
        roots,
        aliases_omitted: sharing == Sharing::FirstPath,
        budget,
    })
}
