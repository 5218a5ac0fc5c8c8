//! The names within archives, to say what one holds that cannot be read.

use tensorlift_storage::{Storage, StorageExt};

/// Names that are read of one archive.
const MOST_NAMES: usize = 1000;
/// Bytes of a zip directory that are read.
const MOST_DIRECTORY_BYTES: u64 = 1 << 20;
/// A zip end record with the longest comment.
const MOST_END_BYTES: u64 = 22 + 65_535;
/// Headers and data of a tar archive are multiples of this many bytes.
const TAR_BLOCK: u64 = 512;

/// An archive, with the names of the files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    Tar(Vec<String>),
    Zip(Vec<String>),
}

/// Reads the names of an archive, if the file is one that is whole enough to have any.
pub(crate) fn read(storage: &dyn Storage) -> Option<Archive> {
    // A tar archive may end in a zip file, but never begins as one.
    let tar = read_tar(storage).map(Archive::Tar);
    tar.or_else(|| read_zip(storage).map(Archive::Zip))
}

/// The names in a zip directory: that of the last end record.
fn read_zip(storage: &dyn Storage) -> Option<Vec<String>> {
    let end = zip_end(storage)?;
    let field = |at: usize| {
        u64::from(u32::from_le_bytes([
            end[at],
            end[at + 1],
            end[at + 2],
            end[at + 3],
        ]))
    };
    let (len, offset) = (field(12).min(MOST_DIRECTORY_BYTES), field(16));
    let directory = bytes(storage, offset, len)?;
    if len > 0 && !directory.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (mut rest, mut names) = (&directory[..], Vec::new());
    while names.len() < MOST_NAMES && rest.starts_with(b"PK\x01\x02") && rest.len() >= 46 {
        let short = |at: usize| usize::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
        let (name, extra, comment) = (short(28), short(30), short(32));
        let Some(text) = rest.get(46..46 + name) else {
            break;
        };
        names.push(String::from_utf8_lossy(text).into_owned());
        rest = rest.get(46 + name + extra + comment..).unwrap_or(&[]);
    }
    Some(names)
}

/// The last end record of a zip archive, wherever its directory may be.
pub(crate) fn zip_end(storage: &dyn Storage) -> Option<Vec<u8>> {
    let len = storage.len().min(MOST_END_BYTES);
    let tail = bytes(storage, storage.len() - len, len)?;
    let end = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    tail.get(end..end + 22).map(<[u8]>::to_vec)
}

/// The names of a tar archive's files.
fn read_tar(storage: &dyn Storage) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut position = 0;
    while names.len() < MOST_NAMES {
        let Some(header) = bytes(storage, position, TAR_BLOCK) else {
            break;
        };
        let checked: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        // The sum counts its own field as spaces.
        let own: u64 = header[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if octal(&header[148..156]) != Some(checked - own + 8 * u64::from(b' ')) {
            break;
        }
        let name = header[..100].split(|&byte| byte == 0).next()?;
        // Files, and not folders, links or headers of extensions.
        if matches!(header[156], 0 | b'0') {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        let len = octal(&header[124..136])?.checked_next_multiple_of(TAR_BLOCK)?;
        position = position.checked_add(TAR_BLOCK)?.checked_add(len)?;
    }
    (position > 0).then_some(names)
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

fn bytes(storage: &dyn Storage, offset: u64, len: u64) -> Option<Vec<u8>> {
    if offset.checked_add(len)? > storage.len() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    storage.read_exact_at(offset, &mut bytes).ok()?;
    Some(bytes)
}
