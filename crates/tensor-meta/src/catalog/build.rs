use super::{Catalog, CatalogError, Entry, Record, RecordId, Source, View};
use crate::{Dtype, Extent, Layout, ShardId};

/// Collects records and entries into a [`Catalog`].
#[derive(Clone, Debug, Default)]
pub struct CatalogBuilder {
    pub(super) catalog: Catalog,
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

    /// Reserves room for more records and entries, so that none is moved and no name is hashed
    /// again.
    pub fn reserve(&mut self, records: usize, entries: usize) -> &mut Self {
        let catalog = &mut self.catalog;
        // Where memory lacks, adding the entries is what fails.
        let _ = catalog.records.try_reserve(records);
        let _ = catalog.entries.try_reserve(entries);
        let name_at = |position: usize| &*catalog.entries[position].name;
        let _ = catalog.names.try_reserve(entries, name_at);
        self
    }

    /// Adds a record that entries can be views of.
    ///
    /// # Errors
    /// [`CatalogError::TooMany`] or [`CatalogError::NoMemory`].
    pub fn record(&mut self, record: Record) -> Result<RecordId, CatalogError> {
        let Catalog {
            records, entries, ..
        } = &mut self.catalog;
        records.try_reserve(1).map_err(|_| no_memory(entries))?;
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

    /// Adds all records, entries and metadata of another catalog; its first shard becomes `first`,
    /// the others follow it.
    ///
    /// # Errors
    /// If a name is taken or there are too many.
    pub fn append(&mut self, catalog: Catalog, first: ShardId) -> Result<&mut Self, CatalogError> {
        let base = u32::try_from(self.catalog.records.len()).map_err(|_| CatalogError::TooMany)?;
        let count = u32::try_from(catalog.records.len()).map_err(|_| CatalogError::TooMany)?;
        base.checked_add(count).ok_or(CatalogError::TooMany)?;
        let room = self.catalog.records.try_reserve(count as usize);
        room.map_err(|_| no_memory(&self.catalog.entries))?;
        let moved = |ShardId(shard): ShardId| {
            let shard = shard.checked_add(first.0).ok_or(CatalogError::TooMany)?;
            Ok::<_, CatalogError>(ShardId(shard))
        };
        for mut record in catalog.records {
            let shard = record.source.shard_mut();
            *shard = moved(*shard)?;
            self.catalog.records.push(record);
        }
        for mut entry in catalog.entries {
            entry.shard = moved(entry.shard)?;
            entry.record.0 += base;
            self.push(entry)?;
        }
        for (key, value) in catalog.metadata {
            self.metadata(key, value);
        }
        Ok(self)
    }

    /// The records and entries so far.
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

    pub(super) fn push(&mut self, entry: Entry) -> Result<(), CatalogError> {
        let Catalog { entries, names, .. } = &mut self.catalog;
        let position = u32::try_from(entries.len()).map_err(|_| CatalogError::TooMany)?;
        entries.try_reserve(1).map_err(|_| no_memory(entries))?;
        let name_at = |position: usize| &*entries[position].name;
        names
            .try_reserve(1, name_at)
            .map_err(|_| no_memory(entries))?;
        if names.insert(&entry.name, position, name_at).is_some() {
            return Err(CatalogError::DuplicateName {
                name: entry.name.into(),
            });
        }
        entries.push(entry);
        Ok(())
    }
}

fn no_memory(entries: &[Entry]) -> CatalogError {
    CatalogError::NoMemory {
        listed: entries.len(),
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
        assert_eq!(catalog.entries()[0].byte_len(), 1 << 42);
    }
}
