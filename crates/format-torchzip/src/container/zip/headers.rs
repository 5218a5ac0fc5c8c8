//! The entries' own headers, which say where their data begin.
//!
//! Header, padding, data and descriptor of the entries follow each other from the first byte of
//! the file to the directory.
//! Other bytes between them are reported to the caller, and are an error if they hold a record of
//! an archive: another reader would see an entry that the directory does not list.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::ops::Range;

use memchr::memmem;
use tensorlift_storage::{Cursor, Storage};

use super::directory::{ExtraFields, ListedEntry, widen};
use super::fields::{
    DESCRIPTOR, DIRECTORY_ENTRY, END, FLAG_DESCRIPTOR, FLAGS_ENCRYPTED, LOCAL_HEADER, ZIP64_END,
    ZIP64_LOCATOR, u16_at, u32_at, u64_at,
};
use super::problem::ArchiveProblem;
use super::{Archive, ZipEntry};
use crate::container::unclaimed::{self, Unclaimed, UnclaimedPlace};
use crate::error::{EntryProblem, Error, Result};
use crate::pickle::display_text;

/// The length of a local header before its name.
const HEADER_BYTES: usize = 30;
/// The length of an extra field before its bytes.
const FIELD_HEAD_BYTES: usize = 4;
/// The longest descriptor: a signature, a checksum and two wide sizes.
const DESCRIPTOR_BYTES: u64 = 24;

/// Reads headers, and bytes near them without another read.
pub(super) struct Headers<'a> {
    archive: &'a Archive<'a>,
    cursor: Cursor<'a>,
    /// Bytes that the cursor's window does not hold in one piece.
    joined: Vec<u8>,
}

/// An entry's own header.
pub(super) struct Header {
    /// Where the data begin in the file.
    pub(super) data: u64,
    has_descriptor: bool,
}

impl<'a> Headers<'a> {
    pub(super) fn new(archive: &'a Archive<'a>) -> Self {
        Self {
            archive,
            cursor: Cursor::new(archive.storage),
            joined: Vec::new(),
        }
    }

    /// At least `len` bytes from `at` on.
    fn peek(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        self.cursor
            .seek(SeekFrom::Start(at))
            .map_err(header_error)?;
        if self.cursor.fill_buf().map_err(header_error)?.len() >= len {
            return self.cursor.fill_buf().map_err(header_error);
        }
        self.joined.resize(len, 0);
        self.cursor
            .read_exact(&mut self.joined)
            .map_err(header_error)?;
        Ok(&self.joined)
    }

    /// Reads an entry's own header, which must agree with the directory.
    pub(super) fn read(&mut self, entry: ZipEntry) -> Result<Header> {
        let archive = self.archive;
        let (listed, name) = (archive.listed(entry), archive.name(entry));
        let start = listed.header_start;
        let fixed_end = start.saturating_add(HEADER_BYTES as u64);
        archive.check_end(entry, fixed_end)?;
        let wrong = |problem| archive.error(entry, problem);
        // With the head of the first extra field; the directory that follows is longer.
        let header = self.peek(start, HEADER_BYTES + name.len() + FIELD_HEAD_BYTES)?;
        let (fixed, rest) = header.split_at(HEADER_BYTES);
        if !fixed.starts_with(LOCAL_HEADER) {
            return Err(wrong(EntryProblem::NoLocalHeader { offset: start }));
        }
        let (name_len, extra_len) = (u16_at(fixed, 26), u16_at(fixed, 28));
        if usize::from(name_len) != name.len() || !rest.starts_with(name) {
            return Err(self.other_name(entry, fixed_end, name_len));
        }
        let flags = u16_at(fixed, 6);
        let method = u64::from(u16_at(fixed, 8));
        let crc32 = u64::from(u32_at(fixed, 14));
        let mut size = u64::from(u32_at(fixed, 22));
        let mut compressed = u64::from(u32_at(fixed, 18));
        let one_field = u16_at(rest, name.len() + 2).checked_add(FIELD_HEAD_BYTES as u16);
        let extra_start = fixed_end + u64::from(name_len);
        let data = extra_start + u64::from(extra_len);
        let has_descriptor = flags & FLAG_DESCRIPTOR != 0;
        if flags & FLAGS_ENCRYPTED != 0 {
            return Err(wrong(EntryProblem::Encrypted));
        }
        // PyTorch pads with one field, and its sizes follow the data.
        if extra_len != 0 && one_field != Some(extra_len) || !has_descriptor {
            archive.check_end(entry, data)?;
            let extra = &self.peek(extra_start, extra_len.into())?[..extra_len.into()];
            for field in ExtraFields(extra) {
                field.map_err(wrong)?;
            }
            if !has_descriptor {
                widen(&mut [&mut size, &mut compressed], extra).map_err(wrong)?;
            }
        }
        for (what, found, expected, counts) in [
            ("compression method", method, listed.method.into(), true),
            ("CRC-32", crc32, listed.crc32.into(), !has_descriptor),
            ("size", size, listed.size, !has_descriptor),
            (
                "compressed size",
                compressed,
                listed.compressed,
                !has_descriptor,
            ),
        ] {
            if counts && found != expected {
                return Err(wrong(EntryProblem::LocalHeader {
                    what,
                    found,
                    expected,
                }));
            }
        }
        Ok(Header {
            data,
            has_descriptor,
        })
    }

    /// The error of a header with another name.
    fn other_name(&mut self, entry: ZipEntry, name_start: u64, name_len: u16) -> Error {
        let left = self.archive.storage.len().saturating_sub(name_start);
        let len = left.min(name_len.into()) as usize;
        let found = match self.peek(name_start, len) {
            Ok(name) => display_text(&name[..len]).into_owned(),
            Err(error) => return error,
        };
        self.archive.error(entry, EntryProblem::OtherName { found })
    }

    /// Checks the bytes between an entry's data and the next entry.
    pub(super) fn behind(
        &mut self,
        entry: ZipEntry,
        header: &Header,
        gap: Range<u64>,
    ) -> Result<Option<Unclaimed>> {
        let archive = self.archive;
        let mut offset = gap.start;
        let gap_len = gap.end - gap.start;
        if header.has_descriptor {
            let listed = archive.listed(entry);
            let len = gap_len.min(DESCRIPTOR_BYTES) as usize;
            let bytes = &self.peek(gap.start, len)?[..len];
            match descriptor_len(bytes, listed) {
                Some(len) => offset += len as u64,
                // There are no bytes to report.
                None if listed.compressed == 0 && listed.size == 0 => {}
                None => return Err(archive.error(entry, EntryProblem::Descriptor)),
            }
        }
        if offset == gap.end {
            return Ok(None);
        }
        let byte_len = gap.end - offset;
        Ok(Some(Unclaimed {
            offset,
            byte_len,
            place: UnclaimedPlace::Entry,
            zeros: scan(archive.storage, offset, byte_len)?,
        }))
    }
}

/// The length of the descriptor at the beginning of `bytes`, if it is that of the entry.
///
/// Section 4.3.9: the signature may be missing, and the sizes have eight bytes in zip64 archives.
fn descriptor_len(bytes: &[u8], listed: &ListedEntry) -> Option<usize> {
    let signature = match bytes.starts_with(DESCRIPTOR) {
        true => DESCRIPTOR.len(),
        false => 0,
    };
    let fields = &bytes[signature..];
    let wanted = (listed.crc32, listed.compressed, listed.size);
    let wide = || (u32_at(fields, 0), u64_at(fields, 4), u64_at(fields, 12));
    let narrow = || {
        let size_at = |at| u64::from(u32_at(fields, at));
        (u32_at(fields, 0), size_at(4), size_at(8))
    };
    if fields.len() >= 20 && wide() == wanted {
        return Some(signature + 20);
    }
    (fields.len() >= 12 && narrow() == wanted).then_some(signature + 12)
}

/// Examines bytes that belong to no entry. Returns whether all are zero; a record of an archive
/// among them is an error.
pub(super) fn scan(storage: &dyn Storage, offset: u64, byte_len: u64) -> Result<bool> {
    // A signature may span two pieces.
    let overlap = LOCAL_HEADER.len() as u64 - 1;
    unclaimed::scan(
        storage,
        (offset, byte_len),
        overlap,
        header_error,
        |at, bytes| {
            for found in memmem::find_iter(bytes, b"PK") {
                let signature = &bytes[found..];
                let record = RECORDS
                    .iter()
                    .find(|(record, _)| signature.starts_with(*record));
                if let Some((_, record)) = record {
                    let offset = at + found as u64;
                    return Err(ArchiveProblem::Unlisted { record, offset }.into());
                }
            }
            Ok(())
        },
    )
}

/// The records that other readers search for.
const RECORDS: [(&[u8; 4], &str); 5] = [
    (LOCAL_HEADER, "the header of an entry"),
    (DIRECTORY_ENTRY, "an entry of a directory"),
    (ZIP64_END, "a zip64 end record"),
    (ZIP64_LOCATOR, "a zip64 locator"),
    (END, "an end record"),
];

fn header_error(source: std::io::Error) -> Error {
    Error::io("a local header of the archive", source)
}
