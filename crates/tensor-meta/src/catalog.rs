use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use tensorlift_memory::HugeVec;
use thiserror::Error;

use crate::{Dtype, Extent, Layout, LayoutError, ShardId};

/// Names a [`Record`] within its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(u32);

impl RecordId {
    /// The position in [`Catalog::records`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of bytes that entries are views of.
///
/// In a safetensors file every tensor has its own; in a PyTorch file it is one storage, which
/// tied weights and slices share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the bytes come from.
    pub source: Source,
    /// The CRC-32 that the archive declares for the bytes.
    pub declared_crc32: Option<u32>,
}

/// Where a record's bytes come from.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// They lie in the shard as they are.
    Stored(Extent),
    /// They lie in the shard as a raw deflate stream.
    Deflated {
        /// The compressed bytes.
        extent: Extent,
        /// The declared length in bytes once inflated.
        len: u64,
    },
    /// They stood in the shard's metadata in another encoding and are decoded already.
    Inline {
        /// The shard they stood in.
        shard: ShardId,
        /// The decoded bytes.
        bytes: Arc<[u8]>,
    },
    /// There are none: a meta tensor has shape and dtype only.
    Absent {
        /// The shard that lists the tensor.
        shard: ShardId,
    },
}

/// The part of a record that an entry looks at, from `offset` bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The record.
    pub record: RecordId,
    /// The position of the first element in the record, in bytes.
    pub offset: u64,
}

/// A tensor as described: its name, its dtype, its layout and where its bytes lie.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    name: Box<str>,
    layout: Layout,
    /// Two pairs that share a word: entries are many.
    record: RecordId,
    shard: ShardId,
    view_offset: u64,
    extent_offset: u64,
    extent_len: u64,
    dtype: Dtype,
    requires_grad: bool,
}

/// All entries of a checkpoint in file order, without their bytes.
///
/// Names are unique and found in constant time.
/// Every entry fits into its record and every extent can be read, as far as the description goes:
/// the builder refuses the rest.
#[derive(Clone, Default)]
pub struct Catalog {
    entries: HugeVec<Entry>,
    records: HugeVec<Record>,
    names: Names,
    metadata: BTreeMap<String, String>,
}

/// Collects records and entries into a [`Catalog`].
#[derive(Clone, Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
}

/// A description that cannot be true.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogError {
    /// Two entries have one name.
    #[error("the name {name:?} is given to two tensors")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An entry reaches past the end of its record.
    #[error("tensor {name:?} needs bytes {first}..{end} of a record of {len} bytes")]
    OutsideRecord {
        /// The entry.
        name: String,
        /// Where it begins in the record.
        first: u64,
        /// The first byte past it.
        end: u64,
        /// How long the record is.
        len: u64,
    },
    /// The size of an entry is no number of whole bytes, or overflows.
    #[error("tensor {name:?} of dtype {dtype} and shape {shape:?} has no size in whole bytes")]
    NoSize {
        /// The entry.
        name: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The shape or the strides are impossible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A tensor cannot be divided along a dimension.
    #[error("tensor {name:?} of shape {shape:?} cannot be divided along dimension {dim}")]
    NoSlice {
        /// The entry.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The dimension.
        dim: usize,
    },
    /// More than `u32::MAX` records or entries.
    #[error("more than {} records or tensors", u32::MAX)]
    TooMany,
}

impl Record {
    /// A record whose bytes lie in the shard as they are.
    #[must_use]
    pub const fn stored(extent: Extent) -> Self {
        Self {
            source: Source::Stored(extent),
            declared_crc32: None,
        }
    }

    /// The length of the bytes once decoded, or `None` if there are none.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.source {
            Source::Stored(extent) => Some(extent.len),
            Source::Deflated { len, .. } => Some(*len),
            Source::Inline { bytes, .. } => Some(bytes.len() as u64),
            Source::Absent { .. } => None,
        }
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len().is_none_or(|len| len == 0)
    }

    /// The bytes of the shard that must be read for it.
    #[must_use]
    pub fn extent(&self) -> Extent {
        match &self.source {
            Source::Stored(extent) | Source::Deflated { extent, .. } => *extent,
            Source::Inline { shard, .. } | Source::Absent { shard } => Extent::new(*shard, 0, 0),
        }
    }
}

impl Source {
    fn shard_mut(&mut self) -> &mut ShardId {
        match self {
            Source::Stored(extent) | Source::Deflated { extent, .. } => &mut extent.shard,
            Source::Inline { shard, .. } | Source::Absent { shard } => shard,
        }
    }
}

impl View {
    /// A view of a record from its first byte on.
    #[must_use]
    pub const fn whole(record: RecordId) -> Self {
        Self { record, offset: 0 }
    }

    /// A view of a record from `offset` bytes on.
    #[must_use]
    pub const fn at(record: RecordId, offset: u64) -> Self {
        Self { record, offset }
    }
}

impl Entry {
    /// The name; nested ones are joined with dots.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of each dimension, in elements.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// How the elements lie in the bytes.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The record it looks at.
    #[must_use]
    pub const fn view(&self) -> View {
        View::at(self.record, self.view_offset)
    }

    /// The bytes of the shard that must be read for it: those from its first to its last element,
    /// or a whole compressed record.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        Extent::new(self.shard, self.extent_offset, self.extent_len)
    }

    /// The bytes from its first to its last element once decoded; those between strided elements
    /// count.
    #[must_use]
    pub fn span_bytes(&self) -> u64 {
        // Checked by the builder.
        self.layout.span_bytes(self.dtype).unwrap_or(u64::MAX)
    }

    /// The bytes of all its elements in row-major order without gaps.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // Checked by the builder.
        self.layout.contiguous_bytes(self.dtype).unwrap_or(u64::MAX)
    }

    /// Whether the file marks it as a trained parameter (PyTorch's `requires_grad`).
    #[must_use]
    pub const fn requires_grad(&self) -> bool {
        self.requires_grad
    }
}

impl Catalog {
    /// An empty builder.
    #[must_use]
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// The entries, in file order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The runs of bytes that entries are views of.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The record that an entry of this catalog looks at.
    #[must_use]
    pub fn record(&self, entry: &Entry) -> &Record {
        &self.records[entry.record.index()]
    }

    /// The entry of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.position(name).map(|position| &self.entries[position])
    }

    /// The position of the entry of this name in [`entries`](Self::entries).
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.find(name, &self.entries)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the file says of itself (safetensors' `__metadata__`).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The same catalog with the names that `rename` gives, without the entries for which it gives
    /// none.
    ///
    /// # Errors
    /// [`CatalogError::DuplicateName`].
    pub fn renamed<N: Into<Box<str>>>(
        &self,
        mut rename: impl FnMut(&Entry) -> Option<N>,
    ) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder::like(self);
        for entry in &self.entries {
            if let Some(name) = rename(entry) {
                builder.push(Entry {
                    name: name.into(),
                    ..entry.clone()
                })?;
            }
        }
        Ok(builder.finish())
    }

    /// The positions of entries that share a record, a list for each record that has several
    /// entries: tied weights, and views of one storage.
    #[must_use]
    pub fn shared(&self) -> Vec<Vec<usize>> {
        let mut by_record = vec![Vec::new(); self.records.len()];
        for (position, entry) in self.entries.iter().enumerate() {
            by_record[entry.record.index()].push(position);
        }
        by_record.retain(|positions| positions.len() > 1);
        by_record
    }
}

impl CatalogBuilder {
    /// A builder with the records and the metadata of a catalog, and none of its entries.
    pub(crate) fn like(catalog: &Catalog) -> Self {
        let records = catalog.records.clone();
        let metadata = catalog.metadata.clone();
        Self {
            catalog: Catalog {
                records,
                metadata,
                ..Catalog::default()
            },
        }
    }

    /// Adds an entry of the catalog that this one is [like](Self::like).
    pub(crate) fn copy(&mut self, entry: &Entry) -> Result<(), CatalogError> {
        self.push(entry.clone())
    }

    /// Makes room for so many more records and entries, so that none is moved and no name is
    /// hashed again on the way.
    pub fn reserve(&mut self, records: usize, entries: usize) -> &mut Self {
        let catalog = &mut self.catalog;
        catalog.records.reserve(records);
        catalog.entries.reserve(entries);
        catalog.names.reserve(entries, &catalog.entries);
        self
    }

    /// Adds a record that entries can be views of.
    ///
    /// # Errors
    /// [`CatalogError::TooMany`].
    pub fn record(&mut self, record: Record) -> Result<RecordId, CatalogError> {
        let records = &mut self.catalog.records;
        let id = u32::try_from(records.len()).map_err(|_| CatalogError::TooMany)?;
        records.push(record);
        Ok(RecordId(id))
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If the name is taken, or the layout has no size in whole bytes or does not fit into the
    /// record.
    ///
    /// # Panics
    /// If the record is of another builder.
    pub fn entry(
        &mut self,
        name: impl Into<Box<str>>,
        dtype: Dtype,
        layout: Layout,
        view: View,
    ) -> Result<&mut Self, CatalogError> {
        let name = name.into();
        let record = &self.catalog.records[view.record.index()];
        let contiguous = layout.contiguous_bytes(dtype);
        let span = match layout.is_contiguous() {
            true => contiguous,
            false => layout.span_bytes(dtype),
        };
        let (Some(span), Some(_)) = (span, contiguous) else {
            let shape = layout.shape().to_vec();
            return Err(CatalogError::NoSize {
                name: name.into(),
                dtype,
                shape,
            });
        };
        let extent = match (&record.source, record.len()) {
            (Source::Absent { .. }, _) | (_, None) => record.extent(),
            (source, Some(len)) => {
                let end = view.offset.checked_add(span).filter(|&end| end <= len);
                if end.is_none() {
                    let (first, end) = (view.offset, view.offset.saturating_add(span));
                    return Err(CatalogError::OutsideRecord {
                        name: name.into(),
                        first,
                        end,
                        len,
                    });
                }
                match source {
                    Source::Stored(extent) => {
                        let offset = extent.offset.saturating_add(view.offset);
                        Extent {
                            offset,
                            len: span,
                            ..*extent
                        }
                    }
                    _ => record.extent(),
                }
            }
        };
        let entry = Entry {
            name,
            layout,
            record: view.record,
            shard: extent.shard,
            view_offset: view.offset,
            extent_offset: extent.offset,
            extent_len: extent.len,
            dtype,
            requires_grad: false,
        };
        self.push(entry)?;
        Ok(self)
    }

    /// Marks the entry added last as a trained parameter.
    pub fn requires_grad(&mut self, requires_grad: bool) -> &mut Self {
        if let Some(entry) = self.catalog.entries.last_mut() {
            entry.requires_grad = requires_grad;
        }
        self
    }

    /// Adds a line of metadata; a key given twice keeps its first value.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.catalog
            .metadata
            .entry(key.into())
            .or_insert_with(|| value.into());
        self
    }

    /// Adds all records, entries and metadata of another catalog, as those of shard `shard`.
    ///
    /// # Errors
    /// If a name is taken or there are too many.
    pub fn append(&mut self, catalog: Catalog, shard: ShardId) -> Result<&mut Self, CatalogError> {
        let base = u32::try_from(self.catalog.records.len()).map_err(|_| CatalogError::TooMany)?;
        let count = u32::try_from(catalog.records.len()).map_err(|_| CatalogError::TooMany)?;
        base.checked_add(count).ok_or(CatalogError::TooMany)?;
        self.catalog
            .records
            .extend(catalog.records.into_iter().map(|mut record| {
                *record.source.shard_mut() = shard;
                record
            }));
        for mut entry in catalog.entries {
            entry.shard = shard;
            entry.record.0 += base;
            self.push(entry)?;
        }
        for (key, value) in catalog.metadata {
            self.metadata(key, value);
        }
        Ok(self)
    }

    /// What was added so far.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The number of entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.catalog.len()
    }

    /// Whether there is no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.catalog.is_empty()
    }

    /// Whether an entry of this name was added.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.catalog.position(name).is_some()
    }

    /// The catalog.
    #[must_use]
    pub fn finish(self) -> Catalog {
        self.catalog
    }

    fn push(&mut self, entry: Entry) -> Result<(), CatalogError> {
        let Catalog { entries, names, .. } = &mut self.catalog;
        let position = u32::try_from(entries.len()).map_err(|_| CatalogError::TooMany)?;
        if !names.insert(&entry.name, position, entries) {
            return Err(CatalogError::DuplicateName {
                name: entry.name.into(),
            });
        }
        entries.push(entry);
        Ok(())
    }
}

/// Positions by name, without a second copy of the names; hashed with a random key, since names
/// come from files.
#[derive(Clone, Default)]
struct Names {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    fn find(&self, name: &str, entries: &[Entry]) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        let found = self
            .table
            .find(hash, |&position| &*entries[position as usize].name == name);
        found.map(|&position| position as usize)
    }

    fn reserve(&mut self, additional: usize, entries: &[Entry]) {
        self.table.reserve(additional, |&position| {
            self.hasher.hash_one(&*entries[position as usize].name)
        });
    }

    /// Whether the name was free.
    fn insert(&mut self, name: &str, position: u32, entries: &[Entry]) -> bool {
        let hash = self.hasher.hash_one(name);
        let vacant = match self.table.entry(
            hash,
            |&other| &*entries[other as usize].name == name,
            |&other| self.hasher.hash_one(&*entries[other as usize].name),
        ) {
            hashbrown::hash_table::Entry::Occupied(_) => return false,
            hashbrown::hash_table::Entry::Vacant(vacant) => vacant,
        };
        vacant.insert(position);
        true
    }
}

/// Two catalogs are equal if they describe the same tensors in the same order.
impl PartialEq for Catalog {
    fn eq(&self, other: &Self) -> bool {
        (&self.entries, &self.records, &self.metadata)
            == (&other.entries, &other.records, &other.metadata)
    }
}

impl Eq for Catalog {}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("entries", &self.entries)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, shard, offset) = (self.shape(), self.shard.0, self.extent_offset);
        write!(
            f,
            "{:?}: {}{shape:?} at {shard}:{offset}",
            self.name, self.dtype
        )
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stored(extent) => write!(f, "Stored({extent})"),
            Source::Deflated { extent, len } => write!(f, "Deflated({extent} to {len} bytes)"),
            Source::Inline { bytes, .. } => write!(f, "Inline({} bytes)", bytes.len()),
            Source::Absent { .. } => f.write_str("Absent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(builder: &mut CatalogBuilder, offset: u64, len: u64) -> RecordId {
        builder
            .record(Record::stored(Extent::new(ShardId::FIRST, offset, len)))
            .unwrap()
    }

    fn vector(len: usize) -> Layout {
        Layout::contiguous([len]).unwrap()
    }

    #[test]
    fn keeps_order_and_finds_by_name() {
        let mut builder = Catalog::builder();
        let record = stored(&mut builder, 100, 4000);
        for index in 0..1000u64 {
            let view = View::at(record, index * 4);
            builder
                .entry(format!("t{index}"), Dtype::F32, vector(1), view)
                .unwrap();
        }
        let catalog = builder.finish();
        assert_eq!(catalog.position("t731"), Some(731));
        assert_eq!(
            catalog.get("t731").unwrap().extent(),
            Extent::new(ShardId::FIRST, 3024, 4)
        );
        assert!(catalog.get("t1000").is_none());
        assert_eq!(catalog.shared().len(), 1);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut builder = Catalog::builder();
        let record = stored(&mut builder, 0, 16);
        builder
            .entry("a", Dtype::F32, vector(4), View::whole(record))
            .unwrap();
        let again = builder.entry("a", Dtype::F32, vector(4), View::whole(record));
        assert_eq!(
            again.unwrap_err(),
            CatalogError::DuplicateName { name: "a".into() }
        );
        for (layout, offset) in [(vector(4), 1), (vector(1), u64::MAX), (vector(5), 0)] {
            let error = builder.entry("b", Dtype::F32, layout, View::at(record, offset));
            assert!(matches!(
                error.unwrap_err(),
                CatalogError::OutsideRecord { .. }
            ));
        }
        let odd = builder.entry("b", Dtype::F4, vector(3), View::whole(record));
        assert!(matches!(odd.unwrap_err(), CatalogError::NoSize { .. }));
        assert_eq!(builder.len(), 1);
    }

    #[test]
    fn appending_moves_shards_and_records() {
        let shard = |name: &str| {
            let mut builder = Catalog::builder();
            let record = stored(&mut builder, 8, 4);
            builder
                .entry(name, Dtype::U8, vector(4), View::whole(record))
                .unwrap();
            builder.finish()
        };
        let mut merged = Catalog::builder();
        merged.append(shard("a"), ShardId(0)).unwrap();
        merged.append(shard("b"), ShardId(1)).unwrap();
        assert!(merged.append(shard("a"), ShardId(2)).is_err());
        let b = merged.catalog.get("b").unwrap();
        assert_eq!(b.extent(), Extent::new(ShardId(1), 8, 4));
        assert_eq!(merged.catalog.record(b).extent(), b.extent());
    }

    #[test]
    fn meta_tensors_have_no_bytes_to_read() {
        let mut builder = Catalog::builder();
        let source = Source::Absent {
            shard: ShardId::FIRST,
        };
        let record = builder
            .record(Record {
                source,
                declared_crc32: None,
            })
            .unwrap();
        builder
            .entry("m", Dtype::F32, vector(1 << 40), View::at(record, 8))
            .unwrap();
        let catalog = builder.finish();
        assert!(catalog.entries()[0].extent().is_empty());
        assert_eq!(catalog.entries()[0].bytes(), 1 << 42);
    }
}
