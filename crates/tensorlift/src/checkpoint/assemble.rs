//! Checkpoints assembled from parts that the caller provides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tensorlift_loader::{Phases, Shard};
use tensorlift_shard_index::{Choice, Companions, HeldTensor, Index, merge};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{
    Catalog, Entry, Error, ErrorKind, Limits, Record, Result, ShardId, Source,
};

use super::{Checkpoint, Held};
use crate::OpenOptions;
use crate::loader::listed;

/// # From parts
impl Checkpoint {
    /// Opens the shards of one checkpoint from any storages: the bytes of its index, and a storage
    /// for each file that the index names. Without an index, the shards are taken in the
    /// order given.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tensorlift::{Checkpoint, MemoryStorage, Storage};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let index = std::fs::read("fixtures/sharded-safetensors/model.safetensors.index.json")?;
    /// let mut shards = Vec::new();
    /// for number in 1..=3 {
    ///     let name = format!("model-{number:05}-of-00003.safetensors");
    ///     let bytes = std::fs::read(format!("fixtures/sharded-safetensors/{name}"))?;
    ///     let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(bytes));
    ///     shards.push((name, storage));
    /// }
    /// let checkpoint = Checkpoint::from_shards(Some(&index), shards)?;
    /// assert_eq!(checkpoint.loader().load()?.tensors().len(), 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::NotFound`] if the index names a file that was not
    /// given.
    pub fn from_shards<N: Into<PathBuf>>(
        index: Option<&[u8]>,
        shards: impl IntoIterator<Item = (N, Arc<dyn Storage>)>,
    ) -> Result<Self> {
        OpenOptions::default().open_shards(index, shards)
    }

    /// A checkpoint from a catalog and its shards; records name shards by position.
    ///
    /// The catalog may be of any format, or describe bytes that are in none:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tensorlift::{Catalog, Checkpoint, Dtype, Extent, MemoryStorage, Shard, ShardId};
    /// use tensorlift::{Layout, Record, View};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bytes: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|it| it.to_le_bytes()).collect();
    /// let shards = vec![Shard::new("in memory", Arc::new(MemoryStorage::new(bytes)))];
    /// let mut catalog = Catalog::builder();
    /// let record = catalog.record(Record::stored(Extent::new(ShardId::FIRST, 4, 8)))?;
    /// catalog.entry("pair", Dtype::F32, Layout::contiguous([2])?, View::whole(record))?;
    /// let checkpoint = Checkpoint::from_parts(catalog.finish(), shards)?;
    /// let loaded = checkpoint.loader().load()?;
    /// assert_eq!(loaded.tensor("pair")?.as_slice::<f32>()?, [2.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if a record lies in a missing shard, or past the end of its shard.
    pub fn from_parts(catalog: impl Into<Arc<Catalog>>, shards: Vec<Shard>) -> Result<Self> {
        let catalog = catalog.into();
        for entry in catalog.entries() {
            check_extent(catalog.record(entry), entry, &shards)?;
        }
        let chosen = shards.first().map_or(Path::new("no file"), Shard::path);
        let choice = Choice::file(chosen);
        Ok(Self::of(catalog, shards, choice))
    }

    /// This checkpoint and another one as one, such as a model and its adapter.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let model = Checkpoint::open("fixtures/tiny-model")?;
    /// let adapter = Checkpoint::open("fixtures/sharded-torch")?;
    /// let adapter = adapter.renamed(|entry| Some(format!("adapter.{}", entry.name())))?;
    /// let both = model.joined(&adapter)?;
    /// let tensors = model.catalog().len() + adapter.catalog().len();
    /// assert_eq!(both.loader().load()?.tensors().len(), tensors);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if both have tensors of the same names, which the error lists; see
    /// [`renamed`](Self::renamed) and [`overlaid`](Self::overlaid).
    pub fn joined(&self, other: &Self) -> Result<Self> {
        let names = other.catalog.entries().iter().map(Entry::name);
        let names = names.filter(|name| self.catalog.get(name).is_some());
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            let found = format!("both checkpoints have the tensors {}", listed(&names));
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_remedy("rename the tensors of one checkpoint, or overlay it"));
        }
        self.combined(other, |_| true)
    }

    /// This checkpoint with the tensors of another one on top: where both have a name, the tensor
    /// of `over` is used.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let model = Checkpoint::open("fixtures/tiny-model")?;
    /// let of_pooler = |name: &str| name.starts_with("pooler.");
    /// let tuned = model.renamed(|it| of_pooler(it.name()).then(|| it.name().to_owned()))?;
    /// assert_eq!(model.overlaid(&tuned)?.catalog().len(), model.catalog().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there are more tensors than a catalog can have.
    pub fn overlaid(&self, over: &Self) -> Result<Self> {
        self.combined(over, |entry| over.catalog.get(entry.name()).is_none())
    }

    fn combined(&self, other: &Self, keeps: impl Fn(&Entry) -> bool) -> Result<Self> {
        let misuse = |error| Error::new(ErrorKind::Misuse, error);
        let base = self.catalog.renamed(|entry| {
            let kept = keeps(entry);
            kept.then(|| entry.name().to_owned())
        });
        let base = base.map_err(misuse)?;
        let mut builder = Catalog::builder();
        let first = ShardId(self.shards.len() as u32);
        let other_catalog = Catalog::clone(&other.catalog);
        builder.append(base, ShardId::FIRST).map_err(misuse)?;
        builder.append(other_catalog, first).map_err(misuse)?;
        let shards = [&self.shards[..], &other.shards[..]].concat();
        let choice = self.choice.clone();
        let mut combined = Self::of(Arc::new(builder.finish()), shards, choice);
        combined.companions = self.companions.clone();
        combined.unlisted = [&self.unlisted[..], &other.unlisted[..]].concat().into();
        combined.copies = [&self.copies[..], &other.copies[..]].concat().into();
        combined.row_major = self.row_major || other.row_major;
        Ok(combined)
    }

    fn of(catalog: Arc<Catalog>, shards: Vec<Shard>, choice: Choice) -> Self {
        Self {
            catalog,
            shards,
            extras: Arc::new([]),
            root: String::new(),
            outside_root: 0,
            row_major: false,
            choice,
            companions: Companions::default(),
            unlisted: Arc::default(),
            copies: Arc::default(),
            phases: Phases::default(),
        }
    }
}

impl OpenOptions {
    /// Opens the shards of one checkpoint from any storages; see [`Checkpoint::from_shards`].
    ///
    /// # Errors
    /// As [`Checkpoint::from_shards`].
    pub fn open_shards<N: Into<PathBuf>>(
        &self,
        index: Option<&[u8]>,
        shards: impl IntoIterator<Item = (N, Arc<dyn Storage>)>,
    ) -> Result<Checkpoint> {
        let clock = Instant::now();
        let limits = &self.resolve.limits;
        let index = index.map(|bytes| parse_index(bytes, limits)).transpose()?;
        let shards = shards
            .into_iter()
            .map(|(name, storage)| Shard::new(name, storage));
        let shards = match &index {
            Some(index) => in_order_of(index, shards.collect())?,
            None => shards.collect(),
        };
        let paths: Vec<PathBuf> = shards.iter().map(|shard| shard.path().to_owned()).collect();
        let (shards, catalogs, extras) = self.parse(shards)?;
        let catalogs = catalogs.into_iter().map(Arc::unwrap_or_clone).collect();
        let merged = merge(&paths, index.as_ref(), catalogs)?;
        let held = |tensors: Vec<HeldTensor>| {
            let tensors = tensors.into_iter();
            let held = tensors.map(|HeldTensor { name, shard, .. }| Held {
                name,
                file: paths[shard.index()].clone(),
            });
            held.collect()
        };
        let chosen = paths.first().map_or(Path::new("no file"), |path| path);
        let choice = Choice::file(chosen);
        let mut checkpoint = Checkpoint::of(Arc::new(merged.catalog), shards, choice);
        checkpoint.unlisted = held(merged.unlisted);
        checkpoint.copies = held(merged.copies);
        checkpoint.extras = extras.into();
        checkpoint.phases.parse = clock.elapsed();
        Ok(checkpoint)
    }
}

fn parse_index(bytes: &[u8], limits: &Limits) -> Result<Index> {
    Index::parse(bytes, limits)
        .map_err(|error| Error::new(ErrorKind::Malformed, error).with_path("index"))
}

/// The shards that an index names, in its order.
fn in_order_of(index: &Index, shards: Vec<Shard>) -> Result<Vec<Shard>> {
    let mut by_name: HashMap<PathBuf, Shard> = shards
        .into_iter()
        .map(|shard| (shard.path().to_owned(), shard))
        .collect();
    let mut take = |name: &str| {
        by_name.remove(Path::new(name)).ok_or_else(|| {
            let found = "the index names this file, and no storage has its name";
            Error::new(ErrorKind::NotFound, found)
                .with_path(name)
                .with_remedy("name each storage as the index does")
        })
    };
    let names = index.shards().iter();
    names.map(|name| take(name)).collect()
}

/// Fails if a record does not lie within its shard.
fn check_extent(record: &Record, entry: &Entry, shards: &[Shard]) -> Result<()> {
    let misuse = |found: String| {
        Error::new(ErrorKind::Misuse, found)
            .with_tensor(entry.name())
            .with_remedy("pass the shards that the catalog was read from, in their order")
    };
    let extent = record.extent();
    let Some(shard) = shards.get(extent.shard.index()) else {
        let found = format!(
            "the tensor is in shard {}, of {}",
            extent.shard.index(),
            shards.len()
        );
        return Err(misuse(found));
    };
    let (expected, found) = (extent.end(), shard.storage().len());
    let reads = matches!(record.source, Source::Stored(_) | Source::Deflated { .. });
    match reads && expected > found {
        true => Err(misuse(format!(
            "expected a shard of {expected} bytes, found {found}"
        ))
        .with_path(shard.path())),
        false => Ok(()),
    }
}
