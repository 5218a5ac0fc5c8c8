//! Bytes of a file that no part of its layout claims.

use std::{fmt, io};

use tensorlift_storage::{Storage, StorageExt};

/// A run of bytes that belongs to no entry, pickle or storage of a file.
///
/// `torch.load` ignores such bytes silently. They are listed by
/// [`TorchFile::unclaimed`](crate::TorchFile::unclaimed), and
/// [`Policy::Strict`](crate::Policy::Strict) refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unclaimed {
    /// The offset of the first byte in the file.
    pub offset: u64,
    /// The number of bytes, at least 1.
    pub byte_len: u64,
    /// What they follow.
    pub place: UnclaimedPlace,
    /// Whether all of them are zero.
    pub zeros: bool,
}

/// What unclaimed bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnclaimedPlace {
    /// An entry of an archive, before the next entry or the directory.
    Entry,
    /// The end record of an archive and its comment.
    Archive,
    /// The last storage of a legacy file.
    Storages,
    /// The pickle of a file, or of an entry of an archive.
    Pickle,
}

impl fmt::Display for Unclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            byte_len,
            place,
            zeros,
        } = *self;
        let bytes = match (byte_len, zeros) {
            (1, false) => "byte",
            (1, true) => "zero byte",
            (_, false) => "bytes",
            (_, true) => "zero bytes",
        };
        let place = match place {
            UnclaimedPlace::Entry => "an entry of the archive",
            UnclaimedPlace::Archive => "the end of the archive",
            UnclaimedPlace::Storages => "the last storage",
            UnclaimedPlace::Pickle => "the pickle",
        };
        write!(f, "{byte_len} {bytes} at byte {offset}, after {place}")
    }
}

/// Bytes that are examined at a time.
const WINDOW: u64 = 64 << 10;

/// Examines bytes that nothing claims, and returns whether all are zero.
///
/// `look` gets them in pieces, each with its offset; pieces overlap by `overlap` bytes.
pub(crate) fn scan<E>(
    storage: &dyn Storage,
    (offset, byte_len): (u64, u64),
    overlap: u64,
    io: impl Fn(io::Error) -> E,
    mut look: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let mut bytes = vec![0; byte_len.min(WINDOW) as usize];
    let (mut at, mut left, mut zeros) = (offset, byte_len, true);
    while left > 0 {
        let bytes = &mut bytes[..left.min(WINDOW) as usize];
        storage.read_exact_at(at, bytes).map_err(&io)?;
        zeros &= bytes.iter().all(|&byte| byte == 0);
        look(at, bytes)?;
        let step = match left <= WINDOW {
            true => left,
            false => WINDOW - overlap,
        };
        (at, left) = (at + step, left - step);
    }
    Ok(zeros)
}
