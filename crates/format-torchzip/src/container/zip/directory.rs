//! The directory of an archive: one header for each entry, APPNOTE.TXT 6.3.10, section 4.3.12.

use tensorlift_storage::{Anonymous, Storage, StorageExt};

use super::end::Location;
use super::fields::{DIRECTORY_ENTRY, FLAGS_ENCRYPTED, u16_at, u32_at, u64_at};
use super::problem::ArchiveProblem;
use crate::error::{EntryProblem, Error, Result};
use crate::pickle::display_text;

/// The length of an entry without its name, extra fields and comment.
const ENTRY_BYTES: usize = 46;
/// Extra fields, sections 4.5.3 and 4.6.9.
const ZIP64_FIELD: u16 = 1;
const UNICODE_PATH_FIELD: u16 = 0x7075;

/// The bytes of a directory.
pub(super) struct Directory {
    bytes: Anonymous,
    /// Where it begins in the file.
    pub(super) start: u64,
    entries: usize,
}

/// An entry as the directory describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedEntry {
    name_start: usize,
    name_len: u16,
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) header_start: u64,
    pub(super) compressed: u64,
    pub(super) size: u64,
}

/// The entries that a directory of `byte_len` bytes can hold.
pub(super) const fn room(byte_len: u64) -> u64 {
    byte_len / ENTRY_BYTES as u64
}

impl Directory {
    /// Reads the directory that the end records name.
    pub(super) fn read(storage: &dyn Storage, location: &Location) -> Result<Self> {
        let io = |source| Error::io("the archive's directory", source);
        let mut bytes = Anonymous::in_huge_pages(location.byte_len as usize).map_err(io)?;
        storage
            .read_exact_at(location.start, &mut bytes)
            .map_err(io)?;
        Ok(Self {
            bytes,
            start: location.start,
            entries: location.entries as usize,
        })
    }

    pub(super) fn name(&self, entry: &ListedEntry) -> &[u8] {
        &self.bytes[entry.name_start..][..usize::from(entry.name_len)]
    }

    /// Passes all entries to `take`; the last one must end the directory.
    pub(super) fn for_each(&self, mut take: impl FnMut(ListedEntry) -> Result<()>) -> Result<()> {
        let mut at = 0;
        for _ in 0..self.entries {
            let (entry, end) = self.entry_at(at)?;
            at = end;
            take(entry)?;
        }
        match self.bytes.len() - at {
            0 => Ok(()),
            left => Err(ArchiveProblem::DirectoryTooLong {
                offset: self.start + at as u64,
                byte_len: left as u64,
            }
            .into()),
        }
    }

    /// The entry that begins at `at`, and where it ends.
    fn entry_at(&self, at: usize) -> Result<(ListedEntry, usize)> {
        let none = || ArchiveProblem::NoDirectoryEntry {
            offset: self.start + at as u64,
        };
        let (fixed, rest) = self.bytes[at..]
            .split_first_chunk::<ENTRY_BYTES>()
            .filter(|(fixed, _)| fixed.starts_with(DIRECTORY_ENTRY))
            .ok_or_else(none)?;
        let len_at = |field| usize::from(u16_at(fixed, field));
        let (name_len, extra_len, comment_len) = (len_at(28), len_at(30), len_at(32));
        let variable = name_len + extra_len + comment_len;
        let extra = rest.get(..variable).ok_or_else(none)?;
        let extra = &extra[name_len..][..extra_len];
        let mut entry = ListedEntry {
            name_start: at + ENTRY_BYTES,
            name_len: name_len as u16,
            method: u16_at(fixed, 10),
            crc32: u32_at(fixed, 16),
            header_start: u64::from(u32_at(fixed, 42)),
            compressed: u64::from(u32_at(fixed, 20)),
            size: u64::from(u32_at(fixed, 24)),
        };
        let disk = u16_at(fixed, 34);
        self.check(&entry, u16_at(fixed, 8), disk, extra)
            .map_err(|problem| Error::entry(display_text(self.name(&entry)), problem))?;
        entry
            .widen(extra)
            .map_err(|problem| Error::entry(display_text(self.name(&entry)), problem))?;
        Ok((entry, at + ENTRY_BYTES + variable))
    }

    fn check(
        &self,
        entry: &ListedEntry,
        flags: u16,
        disk: u16,
        extra: &[u8],
    ) -> Result<(), EntryProblem> {
        let name = self.name(entry);
        if flags & FLAGS_ENCRYPTED != 0 {
            return Err(EntryProblem::Encrypted);
        }
        if has_parent_component(name) {
            return Err(EntryProblem::Escapes);
        }
        // Python's zipfile ends the name there.
        if memchr::memchr(0, name).is_some() {
            return Err(EntryProblem::ZeroInName);
        }
        if !matches!(disk, 0 | u16::MAX) {
            return Err(EntryProblem::OtherDisk { disk });
        }
        for field in ExtraFields(extra) {
            // Python's zipfile uses this name instead of the other.
            if let (UNICODE_PATH_FIELD, [_, _, _, _, _, other @ ..]) = field?
                && other != name
            {
                let found = display_text(other).into_owned();
                return Err(EntryProblem::OtherName { found });
            }
        }
        Ok(())
    }
}

impl ListedEntry {
    /// Takes the numbers that do not fit into the entry from its zip64 field.
    fn widen(&mut self, extra: &[u8]) -> Result<(), EntryProblem> {
        let mut numbers = [&mut self.size, &mut self.compressed, &mut self.header_start];
        widen(&mut numbers, extra)
    }
}

/// Replaces each number that is all ones by its zip64 value, section 4.5.3.
pub(super) fn widen(numbers: &mut [&mut u64], extra: &[u8]) -> Result<(), EntryProblem> {
    let is_deferred = |number: &u64| *number == u64::from(u32::MAX);
    if !numbers.iter().any(|number| is_deferred(number)) {
        return Ok(());
    }
    let mut zip64 = None;
    for field in ExtraFields(extra) {
        let (id, bytes) = field?;
        if id == ZIP64_FIELD && zip64.replace(bytes).is_some() {
            return Err(EntryProblem::Zip64Field);
        }
    }
    let mut left = zip64.ok_or(EntryProblem::Zip64Field)?;
    for number in numbers.iter_mut().filter(|number| is_deferred(number)) {
        let (value, rest) = left
            .split_first_chunk::<8>()
            .ok_or(EntryProblem::Zip64Field)?;
        **number = u64_at(value, 0);
        left = rest;
    }
    Ok(())
}

/// The extra fields of a header: each an identifier, a length and that many bytes.
pub(super) struct ExtraFields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for ExtraFields<'a> {
    type Item = Result<(u16, &'a [u8]), EntryProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.0.split_first_chunk::<4>().and_then(|(head, rest)| {
            let (bytes, rest) = rest.split_at_checked(usize::from(u16_at(head, 2)))?;
            Some((u16_at(head, 0), bytes, rest))
        });
        let Some((id, bytes, rest)) = field else {
            self.0 = &[];
            return Some(Err(EntryProblem::ExtraFields));
        };
        self.0 = rest;
        Some(Ok((id, bytes)))
    }
}

/// Whether a name climbs out of its folder. Nothing is extracted, so it could do no harm, but no
/// archive of PyTorch has one.
fn has_parent_component(name: &[u8]) -> bool {
    memchr::memmem::find(name, b"..").is_some()
        && name
            .split(|&byte| matches!(byte, b'/' | b'\\'))
            .any(|component| component == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_fields_end_exactly() {
        let ids = |bytes: &[u8]| -> Result<Vec<u16>, EntryProblem> {
            ExtraFields(bytes)
                .map(|field| field.map(|(id, _)| id))
                .collect()
        };
        assert_eq!(ids(b""), Ok(vec![]));
        assert_eq!(ids(b"\x05\0\x01\0a\x06\0\0\0"), Ok(vec![5, 6]));
        for broken in [&b"\x05\0\x02\0a"[..], b"\x05\0\x01", b"\x05\0\0\0\0"] {
            assert_eq!(ids(broken), Err(EntryProblem::ExtraFields));
        }
    }

    #[test]
    fn zip64_values_stand_for_numbers_of_all_ones_only() {
        let ones = u64::from(u32::MAX);
        let widened = |mut size: u64, mut offset: u64, extra: &[u8]| {
            widen(&mut [&mut size, &mut offset], extra).map(|()| (size, offset))
        };
        let first = [&[1, 0, 8, 0][..], &5u64.to_le_bytes()].concat();
        let both = [&[1, 0, 16, 0][..], &6u64.to_le_bytes(), &7u64.to_le_bytes()].concat();
        assert_eq!(widened(3, 4, &[]), Ok((3, 4)));
        assert_eq!(widened(3, ones, &first), Ok((3, 5)));
        assert_eq!(widened(ones, 4, &first), Ok((5, 4)));
        assert_eq!(widened(ones, ones, &both), Ok((6, 7)));
        // Numbers that are not needed may follow.
        assert_eq!(widened(ones, 4, &both), Ok((6, 4)));
        for (extra, what) in [
            (&first[..], "too short"),
            (&[], "missing"),
            (&[&both[..], &both].concat(), "twice"),
        ] {
            assert_eq!(
                widened(ones, ones, extra),
                Err(EntryProblem::Zip64Field),
                "{what}"
            );
        }
    }
}
