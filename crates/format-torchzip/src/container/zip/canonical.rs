//! Directories in the form in which PyTorch leaves them, read without the `zip` crate, which
//! takes several times as long and as much memory for tens of thousands of entries.
//!
//! The form is that of APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16, with nothing special: one
//! disk, no comments, no extra fields, no encryption, stored or deflated entries below 4 GiB, and
//! the directory right before the end records, which agree and end the file.
//! What is not in this form, right or wrong, is left to the `zip` crate.

use tensorlift_memory::Anonymous;
use tensorlift_storage::{Storage, StorageExt};
use zip::CompressionMethod;

use crate::error::{Error, Result};

/// The length of the end record without a comment.
const END_BYTES: usize = 22;
/// The length of the zip64 end record and its locator, which PyTorch always writes.
const END64_BYTES: usize = 56 + 20;
/// The length of an entry without its name.
const ENTRY_BYTES: usize = super::MIN_ENTRY_BYTES as usize;
/// A data descriptor follows the data; the name is UTF-8. Neither changes what is read.
const HARMLESS_FLAGS: u16 = 0x0808;

/// A directory in the usual form.
pub(super) struct Directory {
    bytes: Anonymous,
    /// Where it begins in the file.
    pub(super) start: u64,
    pub(super) entries: usize,
}

/// An entry of a directory.
pub(super) struct Item<'d> {
    pub(super) name: &'d [u8],
    pub(super) method: CompressionMethod,
    pub(super) crc32: u32,
    pub(super) compressed: u64,
    pub(super) size: u64,
    pub(super) header_start: u64,
}

impl Directory {
    /// Reads the directory, if the end record may be that of one in the form.
    pub(super) fn read(storage: &dyn Storage) -> Result<Option<Self>> {
        let io = |source| Error::io("the archive's directory", source);
        let Some(tail_start) = storage.len().checked_sub((END64_BYTES + END_BYTES) as u64) else {
            return Ok(None);
        };
        let mut tail = [0; END64_BYTES + END_BYTES];
        storage.read_exact_at(tail_start, &mut tail).map_err(io)?;
        let Some(End {
            entries,
            start,
            len,
        }) = End::of(&tail, tail_start)
        else {
            return Ok(None);
        };
        let mut bytes = Anonymous::in_huge_pages(len as usize).map_err(io)?;
        storage.read_exact_at(start, &mut bytes).map_err(io)?;
        Ok(Some(Self {
            bytes,
            start,
            entries: entries as usize,
        }))
    }

    /// The length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The entries; `None` stands for one that is not in the form, and ends them.
    pub(super) fn items(&self) -> impl Iterator<Item = Option<Item<'_>>> {
        let mut left = &self.bytes[..];
        let mut expected = self.entries;
        std::iter::from_fn(move || {
            if expected == 0 {
                // The directory must end with its last entry.
                return (!std::mem::take(&mut left).is_empty()).then_some(None);
            }
            expected -= 1;
            let item = Item::split_from(&mut left);
            if item.is_none() {
                (left, expected) = (&[], 0);
            }
            Some(item)
        })
    }
}

/// What the end records say.
struct End {
    entries: u64,
    start: u64,
    len: u64,
}

impl End {
    /// Of a file whose last bytes, from `tail_start` on, are these.
    fn of(tail: &[u8; END64_BYTES + END_BYTES], tail_start: u64) -> Option<Self> {
        let (end64, end) = tail.split_at(END64_BYTES);
        let (record, locator) = end64.split_at(56);
        let is_plain = end.starts_with(b"PK\x05\x06")
            && end[4..8] == [0; 4]
            && end[8..10] == end[10..12]
            && end[20..] == [0; 2];
        if !is_plain {
            return None;
        }
        let entries = u64::from(u16_at(end, 10));
        let (len, start) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let found = if locator.starts_with(b"PK\x06\x07") {
            let is_plain = record.starts_with(b"PK\x06\x06")
                && u64_at(record, 4) == 44
                && record[16..24] == [0; 8]
                && record[24..32] == record[32..40]
                && locator[4..8] == [0; 4]
                && u64_at(locator, 8) == tail_start
                && u32_at(locator, 16) == 1;
            let found = Self {
                entries: u64_at(record, 32),
                start: u64_at(record, 48),
                len: u64_at(record, 40),
            };
            // The older record says the same as far as it can.
            let agrees = entries == found.entries.min(u64::from(u16::MAX))
                && start == found.start.min(u64::from(u32::MAX))
                && len == found.len.min(u64::from(u32::MAX));
            (is_plain && agrees && found.start.checked_add(found.len)? == tail_start)
                .then_some(found)?
        } else {
            let end_start = tail_start + END64_BYTES as u64;
            // Nothing may ask for a record that is not there.
            (entries < u64::from(u16::MAX) && start + len == end_start).then_some(Self {
                entries,
                start,
                len,
            })?
        };
        (found.entries <= found.len / ENTRY_BYTES as u64).then_some(found)
    }
}

impl<'d> Item<'d> {
    fn split_from(left: &mut &'d [u8]) -> Option<Self> {
        let (fixed, rest) = left.split_first_chunk::<ENTRY_BYTES>()?;
        let flags = u16_at(fixed, 8);
        let (name_len, extra_len, comment_len) =
            (u16_at(fixed, 28), u16_at(fixed, 30), u16_at(fixed, 32));
        let (compressed, size, header_start) =
            (u32_at(fixed, 20), u32_at(fixed, 24), u32_at(fixed, 42));
        let is_plain = fixed.starts_with(b"PK\x01\x02")
            && flags & !HARMLESS_FLAGS == 0
            && [extra_len, comment_len, u16_at(fixed, 34)] == [0; 3]
            && ![compressed, size, header_start].contains(&u32::MAX);
        let method = match u16_at(fixed, 10) {
            0 => CompressionMethod::STORE,
            8 => CompressionMethod::DEFLATE,
            _ => return None,
        };
        let name;
        (name, *left) = rest.split_at_checked(usize::from(name_len))?;
        is_plain.then_some(Self {
            name,
            method,
            crc32: u32_at(fixed, 16),
            compressed: u64::from(compressed),
            size: u64::from(size),
            header_start: u64::from(header_start),
        })
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
