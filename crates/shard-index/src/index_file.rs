//! Index files on disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::resolve::not_found;
use crate::{Error, Index, IndexError, ResolveOptions};

/// Reads an index file whole.
pub(crate) fn read(path: &Path, options: &ResolveOptions) -> Result<Index, Error> {
    let refused = |error: IndexError| Error::Index {
        path: path.to_owned(),
        error,
    };
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => Error::DanglingLink {
                path: path.to_owned(),
                to,
            },
            Err(_) => not_found(path, None),
        },
        _ => Error::Io {
            path: path.to_owned(),
            error,
        },
    };
    let limit = options.limits.header_bytes;
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    if len > limit {
        return Err(refused(IndexError::LimitExceeded {
            what: "bytes of an index file",
            limit,
            found: len,
        }));
    }
    // One byte more than the limit, so that a file that grows meanwhile is rejected, not cut.
    let mut bytes = Vec::new();
    let room = usize::try_from(len).unwrap_or_default() + 1;
    bytes
        .try_reserve_exact(room)
        .map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
    let mut file = file.take(limit.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(io)?;
    Index::parse(&bytes, &options.limits).map_err(refused)
}

/// Whether a file begins like a JSON object. A safetensors file does not, since its length in 8
/// bytes has zeros in it; nor does an archive or a pickle.
pub(crate) fn begins_like_json(path: &Path) -> Result<bool, Error> {
    let io = |error: io::Error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::with_capacity(8);
    let file = File::open(path).map_err(io)?;
    file.take(8).read_to_end(&mut bytes).map_err(io)?;
    let text = bytes.trim_ascii_start();
    let is_text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
    Ok(text.first() == Some(&b'{') && bytes.iter().all(is_text))
}
