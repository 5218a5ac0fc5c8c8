//! The zip directory of an archive, checked once as a whole.
//!
//! A directory in the usual form is read by [`canonical`], any other by the `zip` crate; what that
//! leaves to its callers is checked here: no name twice, no byte claimed twice, nothing past the
//! directory, sizes from the directory alone.
//! Nothing is ever extracted to a path.

mod canonical;

use std::hash::BuildHasher;
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom};
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};
use tensorlift_memory::Anonymous;
use tensorlift_storage::{Cursor, Storage, StorageExt};
use tensorlift_tensor_meta::{Extent, Limits, Record, ShardId, Source};
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipArchive};

use crate::error::{EntryProblem, Error, Result};
use crate::pickle::{Budget, display_text};
use canonical::{Directory, Item, u16_at, u64_at};

/// The longest tail of a zip file that can hold its end record: the record and a comment.
const TAIL_BYTES: u64 = 22 + 65_535;
/// What an entry costs in memory while the directory is read, and afterwards, in bytes.
const ENTRY_BYTES: u64 = 320;
const LISTED_BYTES: u64 = 96;
/// The shortest entry of a directory, in bytes.
const MIN_ENTRY_BYTES: u64 = 46;
/// The most that one byte of a deflate stream can stand for.
const MAX_RATIO: u64 = 1032;
/// Headers that are read before it is known how long one takes.
const FIRST_HEADERS: usize = 8;
/// A header that takes as long was waited for, and not just read.
const WAITED: Duration = Duration::from_micros(20);
/// What one thread may wait for all headers.
const LONG: Duration = Duration::from_millis(5);
/// Threads that wait for headers.
const HEADER_THREADS: usize = 8;
/// The first byte of an entry's data after its local header's fixed part.
const LOCAL_HEADER_BYTES: u64 = 30;

/// An opened archive: its directory, checked and condensed.
///
/// What the entries' own headers say is checked by [`Archive::locate`], without which only single
/// entries can be read.
pub(crate) struct Archive<'a> {
    storage: &'a dyn Storage,
    /// Where the directory begins in the file.
    directory: u64,
    entries: Vec<Listed>,
    /// All names, one after another.
    names: Vec<u8>,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// An entry of an archive, by its place in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) usize);

/// Where the data of each entry begin in the file, by its place in the directory.
pub(crate) type Located = Vec<u64>;

/// What the directory says of an entry.
#[derive(Clone, Copy)]
struct Listed {
    name_start: usize,
    name_len: u16,
    method: CompressionMethod,
    crc32: u32,
    header_start: u64,
    compressed: u64,
    size: u64,
}

impl<'a> Archive<'a> {
    pub(crate) fn open(
        storage: &'a dyn Storage,
        limits: &Limits,
        budget: &mut Budget,
    ) -> Result<Self> {
        let archive = match Self::read_canonical(storage, limits, budget)? {
            Some(archive) => archive,
            None => Self::read_any(storage, limits, budget)?,
        };
        budget.grow_for(archive.entries.len() as u64, storage.len());
        Ok(archive)
    }

    fn new(storage: &'a dyn Storage, directory: u64, entries: usize) -> Self {
        Self {
            storage,
            directory,
            entries: Vec::with_capacity(entries),
            names: Vec::default(),
            by_name: HashTable::with_capacity(entries),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Reads a directory in the form in which nearly all are; `None` if it is in another one.
    fn read_canonical(
        storage: &'a dyn Storage,
        limits: &Limits,
        budget: &mut Budget,
    ) -> Result<Option<Self>> {
        let Some(directory) = Directory::read(storage)? else {
            return Ok(None);
        };
        let entries = directory.entries;
        check_count(entries as u64, limits)?;
        let listed = entries as u64 * LISTED_BYTES;
        let (directory_len, before) = (directory.len() as u64, budget.left());
        budget
            .charge(directory_len + listed)
            .map_err(Error::budget)?;
        let mut archive = Self::new(storage, directory.start, entries);
        let fixed = entries * MIN_ENTRY_BYTES as usize;
        archive.names.reserve_exact(directory.len() - fixed);
        for item in directory.items() {
            let is_canonical = match item {
                Some(item) => archive.add(&item)?,
                None => false,
            };
            if !is_canonical {
                budget.refund(before - budget.left());
                return Ok(None);
            }
        }
        budget.refund(directory_len);
        Ok(Some(archive))
    }

    /// Reads any directory that the `zip` crate can read.
    fn read_any(storage: &'a dyn Storage, limits: &Limits, budget: &mut Budget) -> Result<Self> {
        let declared = declared_entries(storage)?;
        check_count(declared, limits)?;
        let possible = storage.len() / MIN_ENTRY_BYTES;
        if declared > possible.max(u64::from(u16::MAX)) {
            return Err(Error::Layout(format!(
                "the archive's end declares {declared} entries, but there is room for {possible}"
            )));
        }
        let possible = declared.min(possible);
        budget
            .charge(possible * (ENTRY_BYTES + LISTED_BYTES))
            .map_err(Error::budget)?;
        // Detection takes archives with certain folder names for shifted ones and refuses them.
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let zip = ZipArchive::with_config(config, Cursor::new(storage))?;
        check_count(zip.len() as u64, limits)?;
        if zip.has_duplicate_names() {
            let names = zip.len();
            return Err(Error::Layout(format!(
                "the archive lists {declared} entries under {names} names: some name is given twice"
            )));
        }
        let mut archive = Self::new(storage, zip.central_directory_start(), zip.len());
        for index in 0..zip.len() {
            let entry = zip.by_index_data(index)?;
            archive.add(&Item {
                name: entry.name_raw(),
                method: entry.compression(),
                crc32: entry.crc32(),
                compressed: entry.compressed_size(),
                size: entry.size(),
                header_start: entry.header_start(),
            })?;
            if entry.encrypted() {
                return Err(archive.error(Entry(index), EntryProblem::Encrypted));
            }
        }
        budget.refund(possible * ENTRY_BYTES);
        Ok(archive)
    }

    /// Adds an entry; tells whether its name was not there yet.
    fn add(&mut self, item: &Item<'_>) -> Result<bool> {
        let index = self.entries.len();
        let (hasher, entries, names) = (&self.hasher, &self.entries, &self.names);
        let name_of = |place: &u32| entries[*place as usize].name(names);
        let vacant = match self.by_name.entry(
            hasher.hash_one(item.name),
            |place| name_of(place) == item.name,
            |place| hasher.hash_one(name_of(place)),
        ) {
            hash_table::Entry::Occupied(_) => return Ok(false),
            hash_table::Entry::Vacant(vacant) => vacant,
        };
        vacant.insert(index as u32);
        self.entries.push(Listed {
            name_start: self.names.len(),
            name_len: u16::try_from(item.name.len()).unwrap_or(u16::MAX),
            method: item.method,
            crc32: item.crc32,
            header_start: item.header_start,
            compressed: item.compressed,
            size: item.size,
        });
        self.names.extend_from_slice(item.name);
        if has_parent_component(item.name) {
            return Err(self.error(Entry(index), EntryProblem::Escapes));
        }
        Ok(true)
    }

    /// Finds where each entry's data begin, and checks that no byte is claimed twice, from the
    /// entries' headers in the order of the file.
    pub(crate) fn locate(&self) -> Result<Located> {
        let mut order: Vec<u32> = Vec::with_capacity(self.len());
        order.extend(0..self.len() as u32);
        let start_of = |place: &u32| self.entries[*place as usize].header_start;
        if !order.is_sorted_by_key(start_of) {
            order.sort_unstable_by_key(start_of);
        }
        let mut located = Located::with_capacity(self.len());
        located.resize(self.len(), 0);
        let (mut free_from, mut before) = (0, None);
        for (&place, data) in order.iter().zip(self.data_starts(&order)?) {
            let (entry, start) = (Entry(place as usize), start_of(&place));
            let end = data.saturating_add(self.entries[entry.0].compressed);
            self.check_end(entry, end)?;
            if start < free_from {
                let other = before.map(|before| display_text(self.name(before)).into_owned());
                let other = other.unwrap_or_default();
                return Err(self.error(entry, EntryProblem::Overlap { start, end, other }));
            }
            located[entry.0] = data;
            (free_from, before) = (end, Some(entry));
        }
        Ok(located)
    }

    /// Where the data of some entries begin, in their order.
    ///
    /// Entries of large tensors lie far apart, and where each read waits for a disk or a network,
    /// the time is that of the waiting: if the first few show that, several threads wait for the
    /// rest.
    fn data_starts(&self, order: &[u32]) -> Result<Vec<u64>> {
        let (first, rest) = order.split_at(order.len().min(FIRST_HEADERS));
        let clock = Instant::now();
        let mut starts = Vec::with_capacity(order.len());
        self.add_data_starts(first, &mut starts)?;
        let each = clock.elapsed() / first.len().max(1) as u32;
        if each < WAITED || each * rest.len() as u32 <= LONG {
            self.add_data_starts(rest, &mut starts)?;
            return Ok(starts);
        }
        std::thread::scope(|scope| {
            let part = |order| {
                let mut starts = Vec::default();
                self.add_data_starts(order, &mut starts).map(|()| starts)
            };
            let parts = rest.chunks(rest.len().div_ceil(HEADER_THREADS));
            let parts: Vec<_> = parts
                .map(|order| scope.spawn(move || part(order)))
                .collect();
            for part in parts {
                let part = part.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                starts.extend_from_slice(&part);
            }
            Ok(starts)
        })
    }

    fn add_data_starts(&self, order: &[u32], starts: &mut Vec<u64>) -> Result<()> {
        let mut cursor = Cursor::new(self.storage);
        let mut name = Vec::new();
        for &place in order {
            starts.push(self.data_start(Entry(place as usize), &mut cursor, &mut name)?);
        }
        Ok(())
    }

    /// Where an entry's data begin, by its own header, which must bear its name.
    fn data_start(&self, entry: Entry, cursor: &mut Cursor<'_>, name: &mut Vec<u8>) -> Result<u64> {
        let start = self.entries[entry.0].header_start;
        self.check_end(entry, start.saturating_add(LOCAL_HEADER_BYTES))?;
        let expected = self.name(entry);
        cursor.seek(SeekFrom::Start(start)).map_err(header_error)?;
        // Nearly all headers lie within what the cursor has at hand, and are as they should be.
        let fixed = cursor.fill_buf().map_err(header_error)?;
        if let Some((fixed, rest)) = fixed.split_first_chunk::<{ LOCAL_HEADER_BYTES as usize }>()
            && fixed.starts_with(b"PK\x03\x04")
            && usize::from(u16_at(fixed, 26)) == expected.len()
            && rest.starts_with(expected)
        {
            let behind = expected.len() as u64 + u64::from(u16_at(fixed, 28));
            return Ok(start + LOCAL_HEADER_BYTES + behind);
        }
        let mut header = [0; LOCAL_HEADER_BYTES as usize];
        read(cursor, start, &mut header)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(self.error(entry, EntryProblem::NoLocalHeader { offset: start }));
        }
        let (name_len, extra_len) = (u16_at(&header, 26), u16_at(&header, 28));
        name.resize(usize::from(name_len), 0);
        read(cursor, start + LOCAL_HEADER_BYTES, name)?;
        if *name != expected {
            let found = display_text(name).into_owned();
            return Err(self.error(entry, EntryProblem::OtherName { found }));
        }
        Ok(start + LOCAL_HEADER_BYTES + u64::from(name_len) + u64::from(extra_len))
    }

    /// Nothing of an entry lies past the beginning of the directory.
    fn check_end(&self, entry: Entry, end: u64) -> Result<()> {
        if end <= self.directory {
            return Ok(());
        }
        let start = self.entries[entry.0].header_start;
        let limit = self.directory;
        Err(self.error(entry, EntryProblem::PastDirectory { start, end, limit }))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(name);
        self.by_name
            .find(hash, |&place| {
                self.entries[place as usize].name(&self.names) == name
            })
            .map(|&place| Entry(place as usize))
    }

    /// All names, in the order of the directory.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.name(&self.names))
    }

    pub(crate) fn name(&self, entry: Entry) -> &[u8] {
        self.entries[entry.0].name(&self.names)
    }

    fn error(&self, entry: Entry, problem: EntryProblem) -> Error {
        Error::entry(display_text(self.name(entry)), problem)
    }

    /// The length of an entry's data once decoded.
    pub(crate) fn size(&self, entry: Entry) -> u64 {
        self.entries[entry.0].size
    }

    /// An entry's data, which begin at `data`, as a record of a catalog.
    pub(crate) fn record(&self, entry: Entry, data: u64) -> Result<Record> {
        let Listed {
            compressed, size, ..
        } = self.entries[entry.0];
        let listed = &self.entries[entry.0];
        let extent = Extent::new(ShardId::FIRST, data, compressed);
        let source = match listed.method {
            CompressionMethod::STORE if compressed == size => Source::Stored(extent),
            CompressionMethod::STORE => {
                return Err(self.error(entry, EntryProblem::StoredSizes { compressed, size }));
            }
            CompressionMethod::DEFLATE => {
                if size > compressed.saturating_mul(MAX_RATIO) {
                    return Err(self.error(entry, EntryProblem::Ratio { compressed, size }));
                }
                Source::Deflated { extent, len: size }
            }
            method => {
                let method = format!("{method:?}");
                return Err(self.error(entry, EntryProblem::Method { method }));
            }
        };
        Ok(Record {
            source,
            declared_crc32: Some(listed.crc32),
        })
    }

    /// The data of an entry, decoded.
    pub(crate) fn read(
        &self,
        entry: Entry,
        verify: bool,
        budget: &mut Budget,
    ) -> Result<Anonymous> {
        let mut cursor = Cursor::new(self.storage);
        let data = self.data_start(entry, &mut cursor, &mut Vec::new())?;
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
        Ok(bytes)
    }

    fn inflate(&self, entry: Entry, extent: Extent, declared: u64) -> Result<Anonymous> {
        let io = |source| Error::io("an entry of the archive", source);
        let mut cursor = Cursor::new(self.storage);
        cursor.seek(SeekFrom::Start(extent.offset)).map_err(io)?;
        let mut stream = flate2::bufread::DeflateDecoder::new(cursor.take(extent.len));
        let mut bytes = Anonymous::new(declared as usize).map_err(io)?;
        let problem = |found| self.error(entry, EntryProblem::Inflate { declared, found });
        let mut filled = 0;
        while filled < bytes.len() {
            match stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(problem(format!("it ends after {filled}"))),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(problem(error.to_string())),
            }
        }
        match stream.read(&mut [0]) {
            Ok(0) => Ok(bytes),
            Ok(_) => Err(problem("it is longer".to_owned())),
            Err(error) => Err(problem(error.to_string())),
        }
    }
}

impl Listed {
    fn name<'n>(&self, names: &'n [u8]) -> &'n [u8] {
        &names[self.name_start..][..usize::from(self.name_len)]
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

/// The most entries that any end record in the file's tail declares.
///
/// The directory is only read once this is known to fit into memory.
fn declared_entries(storage: &dyn Storage) -> Result<u64> {
    let io = |source| Error::io("the archive's end record", source);
    let len = storage.len();
    let tail_len = len.min(TAIL_BYTES);
    let mut tail = vec![0; tail_len as usize];
    storage
        .read_exact_at(len - tail_len, &mut tail)
        .map_err(io)?;
    let mut most = None;
    for at in (0..tail.len().saturating_sub(21)).filter(|&at| tail[at..].starts_with(b"PK\x05\x06"))
    {
        let mut count = u64::from(u16_at(&tail, at + 10));
        let locator = (len - tail_len + at as u64).checked_sub(20);
        if let Some(locator) = locator {
            let mut bytes = [0; 20];
            storage.read_exact_at(locator, &mut bytes).map_err(io)?;
            if bytes.starts_with(b"PK\x06\x07") {
                let end64 = u64_at(&bytes, 8);
                count = count.max(declared_entries_64(storage, end64).map_err(io)?);
            }
        }
        most = most.max(Some(count));
    }
    most.ok_or(Error::CutShort { len })
}

fn declared_entries_64(storage: &dyn Storage, at: u64) -> std::io::Result<u64> {
    let mut record = [0; 40];
    if at.checked_add(40).is_none_or(|end| end > storage.len()) {
        return Ok(0);
    }
    storage.read_exact_at(at, &mut record)?;
    // An archive within this one ends in the tail too, and its offsets mean nothing here.
    Ok(match record.starts_with(b"PK\x06\x06") {
        true => u64_at(&record, 32),
        false => 0,
    })
}

fn read(cursor: &mut Cursor<'_>, at: u64, buf: &mut [u8]) -> Result<()> {
    cursor
        .seek(SeekFrom::Start(at))
        .and_then(|_| cursor.read_exact(buf))
        .map_err(header_error)
}

fn header_error(source: io::Error) -> Error {
    Error::io("a local header of the archive", source)
}

/// Whether a name climbs out of its folder. Nothing is extracted, so it could do no harm, but no
/// archive of PyTorch has one.
fn has_parent_component(name: &[u8]) -> bool {
    name.windows(2).any(|pair| pair == b"..")
        && name
            .split(|&byte| matches!(byte, b'/' | b'\\'))
            .any(|component| component == b"..")
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;
    use tensorlift_storage::MemoryStorage;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    type Listing = Vec<(Vec<u8>, Result<Record, String>)>;

    fn budget() -> Budget {
        Budget::for_file(0, 1 << 20)
    }

    fn listing(archive: &Archive<'_>) -> Result<Listing> {
        let located = archive.locate()?;
        let of = |(place, &data)| {
            let record = archive.record(Entry(place), data);
            let record = record.map_err(|error| error.to_string());
            (archive.name(Entry(place)).to_vec(), record)
        };
        Ok(located.iter().enumerate().map(of).collect())
    }

    /// An archive as PyTorch's writer leaves it, but for the padding.
    fn plain(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::STORE);
        for (name, data) in entries {
            // A name that is given twice is left out.
            if writer.start_file(name.as_str(), options).is_ok() {
                writer.write_all(data).unwrap();
            }
        }
        writer.finish().unwrap().into_inner()
    }

    fn entries() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let entry = ("[a-c/.]{1,6}", prop::collection::vec(0u8..4, 20..40));
        prop::collection::vec(entry, 1..5)
    }

    fn check(file: Vec<u8>) -> Option<Listing> {
        let (limits, storage) = (Limits::default(), MemoryStorage::new(file));
        let any = Archive::read_any(&storage, &limits, &mut budget());
        let canonical = Archive::read_canonical(&storage, &limits, &mut budget());
        let listed = |archive: Result<Archive<'_>>| archive.and_then(|archive| listing(&archive));
        match (listed(canonical.transpose()?), listed(any)) {
            (Ok(canonical), Ok(any)) => {
                assert_eq!(canonical, any);
                Some(canonical)
            }
            // Of two faults, each may meet another one first.
            (Err(_), Err(_)) => None,
            (canonical, any) => panic!("{canonical:?}, {any:?}"),
        }
    }

    proptest! {
        #[test]
        fn a_plain_directory_is_read_as_the_zip_crate_does(entries in entries()) {
            let file = plain(&entries);
            let listing = check(file);
            prop_assert!(listing.is_some() || entries.iter().any(|(name, ..)| name.contains("..")));
        }

        #[test]
        fn a_changed_directory_is_never_read_otherwise(
            entries in entries(),
            back in 1usize..200,
            byte in any::<u8>(),
        ) {
            let mut file = plain(&entries);
            let at = file.len().saturating_sub(back);
            file[at] = byte;
            check(file);
        }
    }
}
