//! The positions in the file of the storages that a pickle names.

use hashbrown::HashMap;
use tensorlift_tensor_meta::{Extent, Record};

use crate::container::zip::{Archive, Located, ZipEntry};
use crate::error::Result;
use crate::pickle::globals::StorageType;
use crate::tensors::TensorProblem;
use crate::tensors::objects::{NamedStorage, StorageView};
use crate::tensors::rebuild::Dense;

/// The storages of a file, by key.
pub(crate) enum Storages<'a> {
    /// Entries of an archive.
    Zip(ZipStorages<'a>),
    /// Raw runs behind the pickles of a legacy file.
    Legacy(LegacyStorages),
    /// The members of the older tar layout.
    Tar(TarObjects),
    /// There are none: a bare pickle.
    Nowhere,
}

/// The entries of an archive that hold storages.
pub(crate) struct ZipStorages<'a> {
    pub(crate) archive: &'a Archive<'a>,
    pub(crate) located: &'a Located,
    /// The folder of the storages, with the slash at its end.
    pub(crate) folder: Vec<u8>,
}

/// The storages of a legacy file, in the order of its key list.
#[derive(Debug, Default)]
pub(crate) struct LegacyStorages {
    pub(crate) extents: Vec<Extent>,
    pub(crate) by_key: HashMap<Box<[u8]>, usize>,
}

/// What the tar layout keeps outside of its pickle.
#[derive(Debug, Default)]
pub(crate) struct TarObjects {
    pub(crate) storages: HashMap<i64, TarStorage>,
    pub(crate) tensors: HashMap<i64, Dense>,
    /// The storage of each tensor.
    pub(crate) storage_of: HashMap<i64, i64>,
}

/// A storage of the tar layout, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TarStorage {
    pub(crate) kind: StorageType,
    /// The storage whose bytes these are, which may be another one.
    pub(crate) root: i64,
    pub(crate) extent: Extent,
    /// The part of the extent, in bytes.
    pub(crate) base: u64,
    pub(crate) len: u64,
}

/// A storage within the file: one record, however many names it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StorageIndex {
    /// The place in an archive's directory or a legacy file's key list.
    Entry(usize),
    Number(i64),
}

/// A storage that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: StorageIndex,
    /// Where the storage begins in its record and how long it is, in bytes.
    pub(crate) base: u64,
    pub(crate) len: u64,
}

impl ZipStorages<'_> {
    fn find(&self, key: &[u8], next: usize) -> Option<ZipEntry> {
        let is_it = |name: &[u8]| name.strip_prefix(&*self.folder) == Some(key);
        if next < self.archive.len() && is_it(self.archive.name(ZipEntry(next))) {
            return Some(ZipEntry(next));
        }
        self.archive.find(&[&*self.folder, key].concat())
    }
}

impl Storages<'_> {
    /// The number of storages that have a place in a list.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Storages::Zip(zip) => zip.archive.len(),
            Storages::Legacy(table) => table.extents.len(),
            _ => 0,
        }
    }

    /// Whether a storage of its own has this key.
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        match self {
            Storages::Zip(zip) => zip.find(key, usize::MAX).is_some(),
            Storages::Legacy(table) => table.by_key.contains_key(key),
            Storages::Tar(_) | Storages::Nowhere => false,
        }
    }

    /// Finds the storage of a persistent id and checks its size.
    ///
    /// Storages are usually in the order in which the pickle names them, so the position `next` is
    /// tried first.
    pub(crate) fn find(&self, id: &NamedStorage<'_>, next: usize) -> Result<Found, TensorProblem> {
        let missing = || TensorProblem::MissingStorage {
            key: crate::pickle::display_text(id.key).into_owned(),
        };
        let (place, size) = match self {
            Storages::Zip(zip) => {
                let entry = zip.find(id.key, next).ok_or_else(missing)?;
                let size = zip.archive.size(entry);
                (StorageIndex::Entry(entry.0), size)
            }
            Storages::Legacy(table) => {
                let place = *table.by_key.get(id.key).ok_or_else(missing)?;
                (StorageIndex::Entry(place), table.extents[place].len)
            }
            Storages::Tar(_) | Storages::Nowhere => return Err(missing()),
        };
        let wrong = |declared| TensorProblem::StorageSize {
            key: crate::pickle::display_text(id.key).into_owned(),
            declared,
            found: size,
        };
        let bytes = |elements: u64| elements.checked_mul(id.kind.element_bytes());
        let declared = bytes(id.elements).ok_or_else(|| wrong(u64::MAX))?;
        if declared != size {
            return Err(wrong(declared));
        }
        let (base, len) = match id.view {
            None => (0, size),
            Some(StorageView { offset, len, .. }) => {
                let part = bytes(offset).zip(bytes(len));
                let fits = part
                    .filter(|&(base, len)| base.checked_add(len).is_some_and(|end| end <= size));
                fits.ok_or_else(|| wrong(u64::MAX))?
            }
        };
        Ok(Found { place, base, len })
    }

    /// The record of a storage that was found.
    pub(crate) fn record(&self, place: &StorageIndex) -> Result<Option<Record>> {
        Ok(match (self, place) {
            (Storages::Zip(zip), &StorageIndex::Entry(entry)) => Some(
                zip.archive
                    .record(ZipEntry(entry), zip.located.data[entry])?,
            ),
            (Storages::Legacy(table), StorageIndex::Entry(place)) => {
                table.extents.get(*place).copied().map(Record::stored)
            }
            (Storages::Tar(tar), StorageIndex::Number(number)) => tar
                .storages
                .get(number)
                .map(|storage| Record::stored(storage.extent)),
            _ => None,
        })
    }
}
