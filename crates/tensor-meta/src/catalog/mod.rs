mod build;
mod entry;
mod error;
mod record;

use std::collections::BTreeMap;
use std::fmt;

pub use build::CatalogBuilder;
pub use entry::{Entry, View};
pub use error::CatalogError;
pub use record::{Record, RecordId, Source};

use crate::NameIndex;

/// All entries of a checkpoint in file order, without their bytes.
///
/// Names are unique and found in constant time.
/// Every entry fits into its record: the builder rejects others.
#[derive(Clone, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    records: Vec<Record>,
    names: NameIndex,
    metadata: BTreeMap<String, String>,
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

    /// The record that an entry of this catalog views.
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
        self.names
            .find(name, |position| &self.entries[position].name)
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

    /// The file's metadata (safetensors' `__metadata__`).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The same catalog with the names that `rename` gives, without the entries for which it gives
    /// none.
    ///
    /// # Errors
    /// [`CatalogError::SameName`].
    pub fn renamed<N: Into<Box<str>>>(
        &self,
        mut rename: impl FnMut(&Entry) -> Option<N>,
    ) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder::like(self);
        // The names that entries had, by their new positions.
        let mut before = Vec::new();
        let mut entries = self.entries.iter();
        while let Some(entry) = entries.next() {
            let Some(name) = rename(entry) else { continue };
            let name = name.into();
            let renamed = Entry {
                name,
                ..entry.clone()
            };
            match builder.push(renamed) {
                Ok(()) => before.push(entry.name()),
                Err(CatalogError::DuplicateName { name }) => {
                    let mut from = vec![entry.name().to_owned()];
                    let first = builder.catalog.position(&name);
                    from.splice(..0, first.map(|first| before[first].to_owned()));
                    let others = entries
                        .filter(|other| rename(other).is_some_and(|other| *other.into() == *name));
                    from.extend(others.map(|other| other.name().to_owned()));
                    return Err(CatalogError::SameName { name, from });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(builder.finish())
    }

    /// The same catalog with further names at its end, each for the entry at a position.
    ///
    /// # Errors
    /// [`CatalogError::DuplicateName`].
    ///
    /// # Panics
    /// If there is no entry at a position.
    pub fn with_aliases<N: Into<Box<str>>>(
        self,
        aliases: impl IntoIterator<Item = (N, usize)>,
    ) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder { catalog: self };
        for (name, position) in aliases {
            let name = name.into();
            let entry = builder.catalog.entries[position].clone();
            builder.push(Entry { name, ..entry })?;
        }
        Ok(builder.finish())
    }

    /// The positions of entries that share a record, one list for each record with several entries:
    /// tied weights, and views of one storage.
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
