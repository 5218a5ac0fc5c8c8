use std::collections::HashMap;
use std::path::PathBuf;

use tensorlift_tensor_meta::{Catalog, CatalogError, Entry, ShardId};

use crate::error::{Conflicts, Error, MisplacedTensor, MissingTensor, RepeatedTensor};
use crate::index::Index;

/// The catalogs of all shards as one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// All tensors: the shards in their order, the tensors of each in the order of its file.
    pub catalog: Catalog,
    /// Tensors that the index does not list; they are in the catalog too.
    pub unlisted: Vec<HeldTensor>,
    /// Copies in other shards than the one that the index names; they are not in the catalog.
    pub copies: Vec<HeldTensor>,
}

/// A tensor that a shard holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldTensor {
    /// Its name.
    pub name: String,
    /// The shard that holds it.
    pub shard: ShardId,
}

/// Merges the catalogs of `shards`, one for each and in their order, and checks them against the
/// index, where there is one.
///
/// The index settles which of several copies of a name counts; the others are left out and
/// reported in [`Merged::copies`].
/// A tensor that the index does not list is not an error, as in the libraries that write such
/// files: it is loaded and reported in [`Merged::unlisted`].
///
/// # Errors
/// [`Error::Conflicts`] names every tensor that the index lists and no shard holds, that lies in
/// another shard than the index says, or that lies in several shards of which the index names
/// none.
/// [`Error::ShardCount`] if there are more or fewer catalogs than shards, or than the index names.
pub fn merge(
    shards: &[PathBuf],
    index: Option<&Index>,
    catalogs: Vec<Catalog>,
) -> Result<Merged, Error> {
    let indexed = index.map(|index| index.shards().len());
    if catalogs.len() != shards.len() || indexed.is_some_and(|count| count != shards.len()) {
        return Err(Error::ShardCount {
            shards: indexed.unwrap_or(shards.len()),
            catalogs: catalogs.len(),
        });
    }
    let (unlisted, copies) = match index {
        Some(index) if agrees(index, &catalogs) => (Vec::new(), Vec::new()),
        _ => compare(shards, index, &catalogs)?,
    };
    let mut builder = Catalog::builder();
    builder.reserve(
        catalogs.iter().map(|catalog| catalog.records().len()).sum(),
        catalogs.iter().map(Catalog::len).sum(),
    );
    for (shard, catalog) in (0..).map(ShardId).zip(catalogs) {
        let catalog = match index {
            Some(index) if copies.iter().any(|copy| copy.shard == shard) => {
                without_copies(&catalog, shard, index).map_err(Error::Catalog)?
            }
            _ => catalog,
        };
        builder.append(catalog, shard).map_err(Error::Catalog)?;
    }
    Ok(Merged {
        catalog: builder.finish(),
        unlisted,
        copies,
    })
}

/// Whether shards and index agree: every listed tensor lies where the index says, and the shards
/// hold no other tensors. Then no name is repeated, and no table is needed.
fn agrees(index: &Index, catalogs: &[Catalog]) -> bool {
    let held: usize = catalogs.iter().map(Catalog::len).sum();
    let in_place = |(name, shard): (&str, ShardId)| catalogs[shard.index()].get(name).is_some();
    held == index.len() && index.iter().all(in_place)
}

/// The catalog of a shard without the tensors that the index takes from another one. Those exist;
/// otherwise there would be a conflict.
fn without_copies(
    catalog: &Catalog,
    shard: ShardId,
    index: &Index,
) -> Result<Catalog, CatalogError> {
    catalog.renamed(|entry: &Entry| {
        let listed = index.shard_of(entry.name()).unwrap_or(shard);
        (listed == shard).then(|| entry.name().to_owned())
    })
}

/// A tensor that the index does not place there.
struct Stray<'a> {
    name: &'a str,
    listed: Option<ShardId>,
    first: ShardId,
    more: Vec<ShardId>,
}

/// Finds every contradiction; returns unlisted tensors and copies.
fn compare(
    shards: &[PathBuf],
    index: Option<&Index>,
    catalogs: &[Catalog],
) -> Result<(Vec<HeldTensor>, Vec<HeldTensor>), Error> {
    let (mut unlisted, mut copies) = (Vec::new(), Vec::new());
    let mut strays: Vec<Stray<'_>> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for (shard, catalog) in (0..).map(ShardId).zip(catalogs) {
        for name in catalog.entries().iter().map(Entry::name) {
            let listed = index.and_then(|index| index.shard_of(name));
            let is_there = |listed: ShardId| catalogs[listed.index()].get(name).is_some();
            match listed {
                Some(listed) if listed == shard => {}
                Some(listed) if is_there(listed) => copies.push(HeldTensor {
                    name: name.to_owned(),
                    shard,
                }),
                _ => match positions.get(name) {
                    Some(&position) => strays[position].more.push(shard),
                    None => {
                        positions.insert(name, strays.len());
                        strays.push(Stray {
                            name,
                            listed,
                            first: shard,
                            more: Vec::new(),
                        });
                    }
                },
            }
        }
    }
    let mut conflicts = Conflicts {
        index: None,
        shards: shards.to_vec(),
        missing: Vec::new(),
        misplaced: Vec::new(),
        repeated: Vec::new(),
    };
    for (name, listed) in index.into_iter().flat_map(Index::iter) {
        if catalogs[listed.index()].get(name).is_none() && !positions.contains_key(name) {
            let name = name.to_owned();
            conflicts.missing.push(MissingTensor { name, listed });
        }
    }
    for stray in strays {
        let (name, found) = (stray.name.to_owned(), stray.first);
        match stray.listed {
            _ if !stray.more.is_empty() => conflicts.repeated.push(RepeatedTensor {
                name,
                shards: [vec![found], stray.more].concat(),
            }),
            Some(listed) => conflicts.misplaced.push(MisplacedTensor {
                name,
                listed,
                found,
            }),
            None if index.is_some() => unlisted.push(HeldTensor { name, shard: found }),
            None => {}
        }
    }
    match conflicts.is_empty() {
        true => Ok((unlisted, copies)),
        false => Err(Error::Conflicts(Box::new(conflicts))),
    }
}
