//! Errors of an archive as a whole.

use thiserror::Error;

/// What is wrong with an archive as a whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// The comment of the end record reaches past the end of the file.
    #[error("its comment should end at byte {end}, but the file has {len} bytes")]
    CommentPastEnd {
        /// The first byte past the comment.
        end: u64,
        /// The length of the file in bytes.
        len: u64,
    },
    /// The archive is one of several, or its records say so.
    #[error("its end records refer to more than one disk")]
    SeveralDisks,
    /// The end record and the zip64 end record contradict each other.
    #[error("the {what} is {older} in its end record, but {newer} in its zip64 end record")]
    EndsDisagree {
        /// The number in question.
        what: &'static str,
        /// What the end record says.
        older: u64,
        /// What the zip64 end record says.
        newer: u64,
    },
    /// The locator does not point to a zip64 end record that reaches the locator.
    #[error("expected its zip64 end record at bytes {offset}..{end}, found none of that length")]
    Zip64Misplaced {
        /// Where the locator says that the record begins.
        offset: u64,
        /// Where the locator begins.
        end: u64,
    },
    /// The directory does not end where the end records begin.
    #[error(
        "its end record gives its directory {byte_len} bytes from byte {start} on, expected it to end at byte {expected_end}"
    )]
    DirectoryMisplaced {
        /// Where the directory is said to begin.
        start: u64,
        /// How long it is said to be.
        byte_len: u64,
        /// Where the end records begin.
        expected_end: u64,
    },
    /// Other bytes precede the archive, and its offsets do not count them.
    #[error("the archive begins at byte {byte_len} of the file, after other bytes")]
    Prefix {
        /// The number of bytes before it.
        byte_len: u64,
    },
    /// Other bytes precede the first entry, and all offsets count them.
    #[error("its first entry begins at byte {offset}, expected it at byte 0")]
    LateFirstEntry {
        /// Where the first entry begins, or the directory of an archive without entries.
        offset: u64,
    },
    /// Another archive precedes this one.
    #[error("the file holds more than one archive: the last begins at byte {offset}")]
    SecondArchive {
        /// Where this one begins.
        offset: u64,
    },
    /// The directory cannot hold as many entries as declared.
    #[error("it declares {declared} entries, but its directory has room for {room}")]
    EntryCount {
        /// The count in the end records.
        declared: u64,
        /// The count that fits.
        room: u64,
    },
    /// There is no entry in the directory where one should be.
    #[error("expected an entry of its directory at byte {offset}, found none")]
    NoDirectoryEntry {
        /// Where it should be.
        offset: u64,
    },
    /// The directory is longer than its entries.
    #[error("its directory has {byte_len} bytes after the last entry, at byte {offset}")]
    DirectoryTooLong {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        byte_len: u64,
    },
    /// There is a record of an archive between or after the entries.
    #[error("{record} is at byte {offset}, which its directory does not list")]
    Unlisted {
        /// The kind of record.
        record: &'static str,
        /// Where it begins.
        offset: u64,
    },
}

impl ArchiveProblem {
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::SecondArchive { .. } => {
                "cut the file into its archives: `head -c OFFSET` gives those before that byte, `tail -c +OFFSET+1` the last"
            }
            Self::Prefix { .. } => {
                "cut off the bytes before it: `tail -c +OFFSET+1` gives the archive"
            }
            Self::LateFirstEntry { .. } => {
                "if you trust the file, load it with torch.load and save it again with torch.save"
            }
            Self::SeveralDisks => "join the parts with `zip -s 0` into one archive",
            Self::Unlisted { .. } => {
                "find out who wrote the file: other readers may see other contents in it"
            }
            _ => "fetch or save the file again",
        }
    }
}
