//! The file around its header: lengths, limits, and parts of zeros.

use tensorlift_storage::{Anonymous, Storage, StorageExt};
use tensorlift_tensor_meta::{Catalog, Limits};

use crate::Error;
use crate::entries::Entries;
use crate::tokens::Tokens;

/// The bytes of the header's length.
const LENGTH_BYTES: u64 = 8;

/// How many bytes are examined to recognise a part of zeros.
const ZERO_BYTES: usize = 4096;

/// Whether a file that begins with these bytes (9 are enough) can be a safetensors file.
#[must_use]
pub fn is_safetensors(prefix: &[u8]) -> bool {
    // Lengths from 2^40 on are other formats' magic numbers.
    prefix.len() > 8 && prefix[8] == b'{' && prefix[5..8] == [0; 3]
}

/// Reads the header of a safetensors file.
///
/// Every rule of the format is checked: the header begins with a brace, its names are unique, each
/// byte range has the size of its dtype and shape, and the ranges cover the rest of the file
/// without gap or overlap.
/// Unknown fields of a tensor are ignored, as in the reference implementation.
///
/// # Errors
/// The first rule broken, the first limit crossed, or a failure to read.
pub fn read(storage: &dyn Storage, limits: &Limits) -> Result<Catalog, Error> {
    let file_len = storage.len();
    if file_len < LENGTH_BYTES {
        return Err(Error::TooShort { found: file_len });
    }
    let mut length = [0; LENGTH_BYTES as usize];
    storage.read_exact_at(0, &mut length).map_err(Error::Read)?;
    let declared = u64::from_le_bytes(length);
    if declared == 0
        && let Some(end) = zeros(storage, 0)?
    {
        return Err(Error::Zeros { start: 0, end });
    }
    if declared > limits.header_bytes {
        return Err(Error::HeaderTooLong {
            declared,
            limit: limits.header_bytes,
        });
    }
    let available = file_len - LENGTH_BYTES;
    if declared > available {
        return Err(Error::HeaderCutShort {
            declared,
            available,
        });
    }
    let start = LENGTH_BYTES as usize;
    let parsed = match storage.as_slice() {
        Some(file) => parse(&file[start..][..declared as usize], file_len, limits),
        None => {
            // In huge pages a long header is read in half the time.
            let mut header = Anonymous::in_huge_pages(declared as usize).map_err(Error::Read)?;
            storage
                .read_exact_at(LENGTH_BYTES, &mut header)
                .map_err(Error::Read)?;
            parse(&header, file_len, limits)
        }
    };
    parsed.map_err(|error| explained(error, storage))
}

/// The error, or its visible cause: parts of the file that are zero.
fn explained(error: Error, storage: &dyn Storage) -> Error {
    let zeros = |start: u64| zeros(storage, start).ok().flatten();
    match error {
        Error::NotAnObject { found: Some(0) } => match zeros(LENGTH_BYTES) {
            Some(end) => Error::Zeros {
                start: LENGTH_BYTES,
                end,
            },
            None => error,
        },
        Error::Syntax {
            at,
            found: Some('\0'),
            ..
        } => match zeros(LENGTH_BYTES + at) {
            Some(end) => Error::Zeros {
                start: LENGTH_BYTES + at,
                end,
            },
            None => error,
        },
        Error::WrongLength { expected, found } if expected < found => match zeros(expected) {
            Some(end) if end == found => Error::Padded {
                expected,
                zeros: end - expected,
            },
            _ => error,
        },
        error => error,
    }
}

/// The end of the zeros that begin at `start`, if there are at least 16, if they fill the header's
/// length at the start of the file, or if they reach the end of the file.
fn zeros(storage: &dyn Storage, start: u64) -> Result<Option<u64>, Error> {
    let mut window = [0; ZERO_BYTES];
    let mut end = start;
    while end < storage.len() {
        let len = (storage.len() - end).min(ZERO_BYTES as u64) as usize;
        let window = &mut window[..len];
        storage.read_exact_at(end, window).map_err(Error::Read)?;
        let zeros = window.iter().take_while(|byte| **byte == 0).count();
        end += zeros as u64;
        if zeros < len {
            break;
        }
    }
    let enough = if start == 0 { LENGTH_BYTES } else { 16 };
    let is_enough = end - start >= enough || end == storage.len();
    Ok((end > start && is_enough).then_some(end))
}

/// Parses a whole header of a file of `file_len` bytes.
fn parse(header: &[u8], file_len: u64, limits: &Limits) -> Result<Catalog, Error> {
    if header.first() != Some(&b'{') {
        return Err(Error::NotAnObject {
            found: header.first().copied(),
        });
    }
    // Ignored fields must be UTF-8 too.
    let text = std::str::from_utf8(header).map_err(|error| Error::NotUtf8 {
        at: error.valid_up_to() as u64,
    })?;
    let first_byte = LENGTH_BYTES + header.len() as u64;
    let mut entries = Entries::new(limits, first_byte);
    entries.read(&mut Tokens::new(text))?;
    let end = entries.check_order()?;
    if first_byte + end != file_len {
        return Err(Error::WrongLength {
            expected: first_byte + end,
            found: file_len,
        });
    }
    Ok(entries.builder.finish())
}
