//! The records at the end of an archive, which say where its directory lies.
//!
//! The last end record of a file is used, as in every other reader. Its values must be exact:
//! the zip64 record, its locator and the end record agree, the directory reaches the first of
//! them, and a comment ends within the file.
//! Bytes after the comment are reported to the caller.

use memchr::memmem;
use tensorlift_storage::{Storage, StorageExt};

use super::fields::{
    DIRECTORY_ENTRY, END, LOCAL_HEADER, ZIP64_END, ZIP64_LOCATOR, u16_at, u32_at, u64_at,
};
use super::problem::ArchiveProblem;
use crate::error::{Error, Result};

/// The length of the end record without its comment.
const END_BYTES: u64 = 22;
/// The length of the zip64 end record without extensible data, and of its locator.
const ZIP64_END_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
/// The length of all three records, as PyTorch writes them.
const USUAL_BYTES: u64 = ZIP64_END_BYTES + LOCATOR_BYTES + END_BYTES;
/// The range that other readers search for the end record: the record and the longest comment.
const SEARCHED_BYTES: u64 = END_BYTES + u16::MAX as u64;
/// The fewest zeros at the end of a file that a message mentions.
const TOLD_ZEROS: u64 = 16;
/// How far back zeros at the end of a file are searched, in bytes.
const ZEROS_SEARCHED: u64 = 64 << 20;

/// The position of the directory, as the end records give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::container) struct Location {
    pub(super) entries: u64,
    /// Where the directory begins in the file, and its length in bytes.
    pub(super) start: u64,
    pub(super) byte_len: u64,
    /// The first byte past the end record and its comment.
    pub(super) archive_end: u64,
}

/// Finds the directory of an archive.
pub(in crate::container) fn locate(storage: &dyn Storage) -> Result<Location> {
    let (tail, at) = Tail::with_end_record(storage)?;
    let record: [u8; END_BYTES as usize] = tail.get(at)?;
    let archive_end = at + END_BYTES + u64::from(u16_at(&record, 20));
    if archive_end > storage.len() {
        return Err(ArchiveProblem::CommentPastEnd {
            end: archive_end,
            len: storage.len(),
        }
        .into());
    }
    let older = Numbers {
        disks: [u16_at(&record, 4), u16_at(&record, 6)].map(u64::from),
        entries: [u16_at(&record, 8), u16_at(&record, 10)].map(u64::from),
        byte_len: u64::from(u32_at(&record, 12)),
        start: u64::from(u32_at(&record, 16)),
    };
    let (numbers, directory_end) = match tail.zip64(at)? {
        None => (older, at),
        Some((newer, zip64_start)) => {
            older.check_against(&newer)?;
            (newer, zip64_start)
        }
    };
    numbers.check_disks()?;
    let Numbers {
        entries: [_, entries],
        byte_len,
        start,
        ..
    } = numbers;
    if start.checked_add(byte_len) != Some(directory_end) {
        return Err(tail.misplaced(start, byte_len, directory_end)?);
    }
    Ok(Location {
        entries,
        start,
        byte_len,
        archive_end,
    })
}

/// The values that both kinds of end record have.
struct Numbers {
    /// The disk of the record, and the disk on which the directory begins.
    disks: [u64; 2],
    /// On that disk, and altogether.
    entries: [u64; 2],
    byte_len: u64,
    start: u64,
}

impl Numbers {
    /// Each number of the older record equals that of the zip64 record, or defers to it.
    fn check_against(&self, newer: &Self) -> Result<()> {
        let (short, long) = (u64::from(u16::MAX), u64::from(u32::MAX));
        let [here, all] = self.entries;
        let [newer_here, newer_all] = newer.entries;
        let [disk, first_disk] = self.disks;
        let [newer_disk, newer_first] = newer.disks;
        for (what, older, newer, deferred) in [
            ("number of entries", all, newer_all, short),
            ("number of entries on this disk", here, newer_here, short),
            (
                "length of the directory",
                self.byte_len,
                newer.byte_len,
                long,
            ),
            ("offset of the directory", self.start, newer.start, long),
            ("disk", disk, newer_disk, short),
            ("first disk", first_disk, newer_first, short),
        ] {
            if older != newer && older != deferred {
                return Err(ArchiveProblem::EndsDisagree { what, older, newer }.into());
            }
        }
        Ok(())
    }

    fn check_disks(&self) -> Result<()> {
        let [here, all] = self.entries;
        match self.disks == [0; 2] && here == all {
            true => Ok(()),
            false => Err(ArchiveProblem::SeveralDisks.into()),
        }
    }
}

/// The last bytes of a file.
struct Tail<'a> {
    storage: &'a dyn Storage,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Tail<'a> {
    fn read(storage: &'a dyn Storage, len: u64) -> Result<Self> {
        let len = len.min(storage.len());
        let mut tail = Self {
            storage,
            start: storage.len() - len,
            bytes: vec![0; len as usize],
        };
        storage
            .read_exact_at(tail.start, &mut tail.bytes)
            .map_err(end_error)?;
        Ok(tail)
    }

    /// The tail with the last end record of the file, and where that begins.
    fn with_end_record(storage: &'a dyn Storage) -> Result<(Self, u64)> {
        let mut tail = Self::read(storage, USUAL_BYTES)?;
        let usual = storage.len().saturating_sub(END_BYTES);
        if !tail.has(usual, END) {
            tail = Self::read(storage, SEARCHED_BYTES)?;
        }
        // A signature closer to the end than the length of a record begins none.
        let searched = tail
            .bytes
            .len()
            .saturating_sub(END_BYTES as usize - END.len());
        match memmem::rfind(&tail.bytes[..searched], END) {
            Some(at) => {
                let at = tail.start + at as u64;
                Ok((tail, at))
            }
            None => Err(tail.no_end()),
        }
    }

    /// Whether the tail has these bytes at an offset.
    fn has(&self, at: u64, expected: &[u8]) -> bool {
        let at = at.checked_sub(self.start);
        let found = at.and_then(|at| self.bytes.get(at as usize..));
        found.is_some_and(|found| found.starts_with(expected))
    }

    /// Bytes within the file, wherever they are.
    fn get<const N: usize>(&self, at: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let here = at.checked_sub(self.start);
        match here.and_then(|here| self.bytes.get(here as usize..)?.first_chunk()) {
            Some(here) => bytes = *here,
            None => self
                .storage
                .read_exact_at(at, &mut bytes)
                .map_err(end_error)?,
        }
        Ok(bytes)
    }

    /// The values and the position of the zip64 record, if the end record at `end` has one.
    fn zip64(&self, end: u64) -> Result<Option<(Numbers, u64)>> {
        let Some(locator_start) = end.checked_sub(LOCATOR_BYTES) else {
            return Ok(None);
        };
        let locator: [u8; LOCATOR_BYTES as usize] = self.get(locator_start)?;
        if !locator.starts_with(ZIP64_LOCATOR) {
            return Ok(None);
        }
        let start = u64_at(&locator, 8);
        let misplaced = || -> Error {
            ArchiveProblem::Zip64Misplaced {
                offset: start,
                end: locator_start,
            }
            .into()
        };
        // A record of another length has extensible data, which every reader skips.
        let longest = locator_start.checked_sub(ZIP64_END_BYTES);
        if longest.is_none_or(|longest| start > longest) {
            return Err(misplaced());
        }
        let record: [u8; ZIP64_END_BYTES as usize] = self.get(start)?;
        let record_end = start.checked_add(12).zip(Some(u64_at(&record, 4)));
        let record_end = record_end.and_then(|(fixed, len)| fixed.checked_add(len));
        if !record.starts_with(ZIP64_END) || record_end != Some(locator_start) {
            return Err(self
                .shifted_zip64(start, locator_start)?
                .unwrap_or_else(misplaced));
        }
        if u32_at(&locator, 4) != 0 || u32_at(&locator, 16) > 1 {
            return Err(ArchiveProblem::SeveralDisks.into());
        }
        let numbers = Numbers {
            disks: [u32_at(&record, 16), u32_at(&record, 20)].map(u64::from),
            entries: [u64_at(&record, 24), u64_at(&record, 32)],
            byte_len: u64_at(&record, 40),
            start: u64_at(&record, 48),
        };
        Ok(Some((numbers, start)))
    }

    /// The error of a zip64 record that is earlier than its locator says, since other bytes precede
    /// the archive.
    fn shifted_zip64(&self, said: u64, locator_start: u64) -> Result<Option<Error>> {
        let usual = locator_start - ZIP64_END_BYTES;
        let record: [u8; ZIP64_END_BYTES as usize] = self.get(usual)?;
        let directory_end = u64_at(&record, 40).checked_add(u64_at(&record, 48));
        let is_shifted = record.starts_with(ZIP64_END) && directory_end == Some(said);
        match usual.checked_sub(said) {
            Some(len @ 1..) if is_shifted => self.prefixed(len).map(Some),
            _ => Ok(None),
        }
    }

    /// The error of a directory that does not reach the end records.
    fn misplaced(&self, start: u64, byte_len: u64, expected_end: u64) -> Result<Error> {
        let real = expected_end.checked_sub(byte_len);
        if let Some((real, prefix @ 1..)) =
            real.and_then(|real| Some((real, real.checked_sub(start)?)))
            && byte_len > 0
            && self.get::<4>(real)? == *DIRECTORY_ENTRY
        {
            return self.prefixed(prefix);
        }
        Ok(ArchiveProblem::DirectoryMisplaced {
            start,
            byte_len,
            expected_end,
        }
        .into())
    }

    /// The error of an archive that begins at `len` and whose offsets count from there.
    fn prefixed(&self, len: u64) -> Result<Error> {
        let first: [u8; 4] = self.get(0)?;
        Ok(match first == *LOCAL_HEADER || first == *END {
            true => ArchiveProblem::SecondArchive { offset: len }.into(),
            false => ArchiveProblem::Prefix { byte_len: len }.into(),
        })
    }

    /// The error of a file without an end record.
    fn no_end(&self) -> Error {
        let len = self.storage.len();
        match zeros_at_end(self.storage) {
            // Records and numbers end in some zeros of their own.
            Ok(zeros) if zeros < TOLD_ZEROS => Error::CutShort { len },
            Ok(zeros) => Error::ZerosAtEnd { zeros, len },
            Err(error) => error,
        }
    }
}

/// How many bytes at the end of a file are zero, within the searched part.
fn zeros_at_end(storage: &dyn Storage) -> Result<u64> {
    const STEP: u64 = 1 << 20;
    let mut end = storage.len();
    let stop = end.saturating_sub(ZEROS_SEARCHED);
    let mut bytes = vec![0; STEP.min(end) as usize];
    while end > stop {
        let start = end.saturating_sub(STEP);
        let bytes = &mut bytes[..(end - start) as usize];
        storage.read_exact_at(start, bytes).map_err(end_error)?;
        if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
            return Ok(storage.len() - (start + last as u64 + 1));
        }
        end = start;
    }
    Ok(storage.len() - end)
}

fn end_error(source: std::io::Error) -> Error {
    Error::io("the archive's end record", source)
}
