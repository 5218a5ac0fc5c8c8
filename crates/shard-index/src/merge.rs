use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use tensorlift_tensor_meta::{Catalog, ShardId};

use crate::error::{Conflicts, Error, MisplacedTensor, MissingTensor, RepeatedTensor};
use crate::index::Index;

/// The catalogs of all shards as one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// All tensors: the shards in their order, the tensors of each in the order of its file.
    pub catalog: Catalog,
    /// Tensors that a shard holds, but the index does not list; they are in the catalog too.
    pub unlisted: Vec<UnlistedTensor>,
}

/// A tensor that a shard holds, but the index does not list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnlistedTensor {
    /// Its name.
    pub name: String,
    /// The shard that holds it.
    pub shard: ShardId,
}

/// Merges the catalogs of `shards`, one for each and in their order, and checks them against the
/// index, where there is one.
///
/// A tensor that the index does not list is no error, as for the libraries that write such files:
/// it is loaded and reported in [`Merged::unlisted`].
///
/// # Errors
/// [`Error::Conflicts`] names every tensor that the index lists and no shard holds, that lies in
/// another shard than the index says, or that lies in several shards.
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
    let unlisted = match index {
        Some(index) if agrees(index, &catalogs) => Vec::new(),
        _ => compare(shards, index, &catalogs)?,
    };
    let mut builder = Catalog::builder();
    builder.reserve(
        catalogs.iter().map(|catalog| catalog.records().len()).sum(),
        catalogs.iter().map(Catalog::len).sum(),
    );
    for (shard, catalog) in (0..).map(ShardId).zip(catalogs) {
        builder.append(catalog, shard).map_err(Error::Catalog)?;
    }
    Ok(Merged {
        catalog: builder.finish(),
        unlisted,
    })
}

/// Whether shards and index say the same: all listed tensors lie where the index says, and the
/// shards hold no more tensors than are listed. So none can lie twice, and no table is needed.
fn agrees(index: &Index, catalogs: &[Catalog]) -> bool {
    let held: usize = catalogs.iter().map(Catalog::len).sum();
    let in_place = |(name, shard): (&str, ShardId)| catalogs[shard.index()].get(name).is_some();
    held == index.len() && index.iter().all(in_place)
}

/// Finds everything that does not fit together; returns what is merely unlisted.
fn compare(
    shards: &[PathBuf],
    index: Option<&Index>,
    catalogs: &[Catalog],
) -> Result<Vec<UnlistedTensor>, Error> {
    let mut conflicts = Conflicts {
        index: None,
        shards: shards.to_vec(),
        missing: Vec::new(),
        misplaced: Vec::new(),
        repeated: Vec::new(),
    };
    let mut unlisted = Vec::new();
    let held = catalogs.iter().map(Catalog::len).sum();
    let mut first = HashMap::with_capacity(held);
    let mut repeated: HashMap<&str, usize> = HashMap::new();
    for (shard, catalog) in (0..).map(ShardId).zip(catalogs) {
        for entry in catalog.entries() {
            let name = entry.name();
            match first.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(shard);
                    if index.is_some_and(|index| index.shard_of(name).is_none()) {
                        let name = name.to_owned();
                        unlisted.push(UnlistedTensor { name, shard });
                    }
                }
                Entry::Occupied(held) => {
                    let position = *repeated.entry(name).or_insert_with(|| {
                        conflicts.repeated.push(RepeatedTensor {
                            name: name.to_owned(),
                            shards: vec![*held.get()],
                        });
                        conflicts.repeated.len() - 1
                    });
                    conflicts.repeated[position].shards.push(shard);
                }
            }
        }
    }
    for (name, listed) in index.into_iter().flat_map(Index::iter) {
        let owned = || name.to_owned();
        match first.get(name) {
            None => conflicts.missing.push(MissingTensor {
                name: owned(),
                listed,
            }),
            Some(_) if repeated.contains_key(name) => {}
            Some(&found) if found != listed => {
                let name = owned();
                conflicts.misplaced.push(MisplacedTensor {
                    name,
                    listed,
                    found,
                });
            }
            Some(_) => {}
        }
    }
    if conflicts.is_empty() {
        return Ok(unlisted);
    }
    Err(Error::Conflicts(Box::new(conflicts)))
}
