//! Zip archives, each checked once as a whole.
//!
//! An archive must match its end record completely, or it is rejected: [`end`] finds the directory,
//! [`directory`] reads its entries, [`headers`] and [`locate`] check that they fill the file.
//! No name is repeated, and nothing is extracted to a path.

mod directory;
mod end;
mod fields;
mod headers;
mod locate;
mod problem;

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::io::ErrorKind;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};
use tensorlift_storage::{Anonymous, Storage, StorageExt, inflate};
use tensorlift_tensor_meta::{Extent, Limits, Record, ShardId, Source};

use crate::error::{EntryProblem, Error, Result};
use crate::pickle::{DescriptionBudget, display_text};
use directory::{Directory, ListedEntry};
use fields::{DEFLATED, STORED};
use headers::Headers;

pub(super) use end::locate as locate_directory;
pub(crate) use locate::Located;
pub use problem::ArchiveProblem;

/// The memory of an entry, apart from its bytes in the directory.
const LISTED_BYTES: u64 = 96;
/// The most bytes that one byte of a deflate stream can produce.
const MAX_RATIO: u64 = 1032;

/// An opened archive and its directory.
///
/// [`Archive::locate`] checks the entries' own headers; before that, only single entries can be
/// read.
pub(crate) struct Archive<'a> {
    storage: &'a dyn Storage,
    directory: Directory,
    /// The first byte past the end record and its comment.
    archive_end: u64,
    entries: Vec<ListedEntry>,
    /// By names in lower case.
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// An entry of an archive, by its place in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZipEntry(pub(crate) usize);

impl<'a> Archive<'a> {
    pub(crate) fn open(
        storage: &'a dyn Storage,
        limits: &Limits,
        budget: &mut DescriptionBudget,
    ) -> Result<Self> {
        let location = end::locate(storage)?;
        let declared = location.entries;
        check_count(declared, limits)?;
        let room = directory::room(location.byte_len);
        if declared > room {
            return Err(ArchiveProblem::EntryCount { declared, room }.into());
        }
        budget
            .charge(location.byte_len + declared * LISTED_BYTES)
            .map_err(Error::budget)?;
        let mut archive = Self {
            storage,
            directory: Directory::read(storage, &location)?,
            archive_end: location.archive_end,
            entries: Vec::new(),
            by_name: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        };
        let reserved = archive.entries.try_reserve_exact(declared as usize);
        let table = archive.by_name.try_reserve(declared as usize, |_| 0);
        if reserved.is_err() || table.is_err() {
            let source = ErrorKind::OutOfMemory.into();
            return Err(Error::io("the entries of the archive", source));
        }
        archive.list()?;
        budget.grow_for(declared, storage.len());
        Ok(archive)
    }

    /// Lists all entries of the directory.
    fn list(&mut self) -> Result<()> {
        let Self {
            directory,
            entries,
            by_name,
            hasher,
            ..
        } = self;
        let mut lower = Vec::new();
        directory.for_each(|entry| {
            let name = directory.name(&entry);
            let index = entries.len() as u32;
            let name_of = |place: &u32| directory.name(&entries[*place as usize]);
            let hash = hash_lower(hasher, name, &mut lower);
            // The table never grows, so nothing is hashed twice.
            let found = by_name.entry(hash, |place| is_taken(name_of(place), name), |_| hash);
            match found {
                hash_table::Entry::Occupied(other) => {
                    let other = display_text(name_of(other.get())).into_owned();
                    let problem = EntryProblem::Duplicate { other };
                    return Err(Error::entry(display_text(name), problem));
                }
                hash_table::Entry::Vacant(vacant) => {
                    vacant.insert(index);
                }
            }
            entries.push(entry);
            Ok(())
        })
    }

    /// Finds the data of each entry, and checks that the entries fill the file.
    pub(crate) fn locate(&self) -> Result<Located> {
        locate::locate(self)
    }

    /// Checks that an entry ends before the directory.
    fn check_end(&self, entry: ZipEntry, end: u64) -> Result<()> {
        let (start, limit) = (self.listed(entry).header_start, self.directory.start);
        match end <= limit {
            true => Ok(()),
            false => Err(self.error(entry, EntryProblem::PastDirectory { start, end, limit })),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<ZipEntry> {
        let hash = hash_lower(&self.hasher, name, &mut Vec::new());
        let is_it = |place: &u32| self.name(ZipEntry(*place as usize)) == name;
        let found = self.by_name.find(hash, is_it);
        found.map(|&place| ZipEntry(place as usize))
    }

    /// All names, in the order of the directory.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| self.directory.name(entry))
    }

    pub(crate) fn name(&self, entry: ZipEntry) -> &[u8] {
        self.directory.name(self.listed(entry))
    }

    fn shown_name(&self, entry: ZipEntry) -> String {
        display_text(self.name(entry)).into_owned()
    }

    fn listed(&self, entry: ZipEntry) -> &ListedEntry {
        &self.entries[entry.0]
    }

    fn error(&self, entry: ZipEntry, problem: EntryProblem) -> Error {
        Error::entry(self.shown_name(entry), problem)
    }

    /// The length of an entry's data once decoded.
    pub(crate) fn size(&self, entry: ZipEntry) -> u64 {
        self.listed(entry).size
    }

    /// An entry's data, which begin at `data`, as a record of a catalog.
    pub(crate) fn record(&self, entry: ZipEntry, data: u64) -> Result<Record> {
        let ListedEntry {
            compressed,
            size,
            method,
            crc32,
            ..
        } = *self.listed(entry);
        let extent = Extent::new(ShardId::FIRST, data, compressed);
        let source = match method {
            STORED if compressed == size => Source::Stored(extent),
            STORED => {
                return Err(self.error(entry, EntryProblem::StoredSizes { compressed, size }));
            }
            DEFLATED => {
                if size > compressed.saturating_mul(MAX_RATIO) {
                    return Err(self.error(entry, EntryProblem::Ratio { compressed, size }));
                }
                Source::Deflated { extent, len: size }
            }
            method => {
                return Err(self.error(entry, EntryProblem::Method { method }));
            }
        };
        Ok(Record::new(source).crc32(crc32))
    }

    /// The data of an entry, decoded, and where they begin in the file.
    pub(crate) fn read(
        &self,
        entry: ZipEntry,
        verify: bool,
        budget: &mut DescriptionBudget,
    ) -> Result<(Anonymous, u64)> {
        let data = Headers::new(self).read(entry)?.data;
        let record = self.record(entry, data)?;
        let size = self.size(entry);
        self.check_end(entry, record.extent().end())?;
        budget.charge(size).map_err(Error::budget)?;
        let bytes = match record.source {
            Source::Deflated { extent, len } => self.inflate(entry, extent, len)?,
            _ => {
                let io = |source| Error::io("an entry of the archive", source);
                let mut bytes = Anonymous::in_huge_pages(size as usize).map_err(io)?;
                self.storage.read_exact_at(data, &mut bytes).map_err(io)?;
                bytes
            }
        };
        if let Some(declared) = record.declared_crc32.filter(|_| verify) {
            let found = crc32fast::hash(&bytes);
            if found != declared {
                let problem = EntryProblem::Crc { declared, found };
                return Err(self.error(entry, problem));
            }
        }
        Ok((bytes, data))
    }

    fn inflate(&self, entry: ZipEntry, extent: Extent, declared: u64) -> Result<Anonymous> {
        let io = |source| Error::io("an entry of the archive", source);
        let mut bytes = Anonymous::new(declared as usize).map_err(io)?;
        let found = inflate(self.storage, extent.range(), &mut bytes).map_err(io)?;
        let found = match found.cmp(&bytes.len()) {
            Ordering::Equal => return Ok(bytes),
            Ordering::Less => format!("it ends or is damaged after {found} bytes"),
            Ordering::Greater => "it is longer".to_owned(),
        };
        Err(self.error(entry, EntryProblem::Inflate { declared, found }))
    }
}

fn check_count(found: u64, limits: &Limits) -> Result<()> {
    if found > limits.archive_entries {
        return Err(Error::Limit {
            what: "entries of the archive",
            limit: limits.archive_entries,
            found,
        });
    }
    Ok(())
}

/// Whether PyTorch, which compares names without regard to case, could confuse the names. In a
/// TorchScript archive, classes whose names differ in case have files that do.
fn is_taken(name: &[u8], other: &[u8]) -> bool {
    let is_code = || memchr::memmem::find(name, b"/code/").is_some();
    name == other || name.eq_ignore_ascii_case(other) && !is_code()
}

fn hash_lower(hasher: &DefaultHashBuilder, name: &[u8], lower: &mut Vec<u8>) -> u64 {
    lower.clear();
    lower.extend_from_slice(name);
    lower.make_ascii_lowercase();
    hasher.hash_one(&lower[..])
}
