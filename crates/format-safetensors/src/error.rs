use std::io;

use tensorlift_tensor_meta::{self as meta, BoxError, CatalogError, Dtype, ErrorKind};
use thiserror::Error as ThisError;

/// Why a file cannot be read or written as safetensors.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The header could not be read.
    #[error("cannot read the header")]
    Read(#[source] io::Error),
    /// The file ends within the 8 bytes of the header's length.
    #[error("expected at least 8 bytes for the length of the header, found {found}")]
    TooShort {
        /// The length of the file in bytes.
        found: u64,
    },
    /// The header is longer than the limit.
    #[error("the header claims {declared} bytes, the limit is {limit}")]
    HeaderTooLong {
        /// The claimed length in bytes.
        declared: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The header reaches past the end of the file.
    #[error("the header claims {declared} bytes, the file has {available} after the length")]
    HeaderCutShort {
        /// The claimed length in bytes.
        declared: u64,
        /// The bytes there are.
        available: u64,
    },
    /// The header does not begin with a brace.
    #[error("expected the header to begin with '{{', found {}", shown(*found))]
    NotAnObject {
        /// The first byte, if there is one.
        found: Option<u8>,
    },
    /// The header is not UTF-8.
    #[error("expected the header to be UTF-8, found other bytes from its byte {at} on")]
    NotUtf8 {
        /// Position in the header, in bytes.
        at: u64,
    },
    /// The header is not JSON of the expected form.
    #[error("byte {at} of the header: expected {expected}, found {}", shown_char(*found))]
    Syntax {
        /// Position in the header, in bytes.
        at: u64,
        /// What should be there.
        expected: &'static str,
        /// The character that is there, if there is one.
        found: Option<char>,
    },
    /// A field of a tensor, a key of the metadata or the metadata itself is given twice.
    #[error("{key:?} is given twice, the second time before byte {at} of the header")]
    Repeated {
        /// The end of the second one in the header, in bytes.
        at: u64,
        /// Its name, cut where it is long.
        key: String,
    },
    /// A tensor's description lacks a field.
    #[error("the description that ends at byte {at} of the header has no {field:?}")]
    MissingField {
        /// The end of the description in the header, in bytes.
        at: u64,
        /// The tensor.
        tensor: String,
        /// The field.
        field: &'static str,
    },
    /// A byte range is not given by two numbers.
    #[error("byte {at} of the header: expected a begin and an end, found {found} numbers")]
    OffsetCount {
        /// Position in the header, in bytes.
        at: u64,
        /// How many numbers there are.
        found: usize,
    },
    /// Bytes that should describe tensors are zero.
    #[error("bytes {start}..{end} of the file are zero: they were never written, or lost")]
    Zeros {
        /// The first zero.
        start: u64,
        /// The first byte past them.
        end: u64,
    },
    /// The file is complete, with zeros after it.
    #[error("the tensors end at byte {expected}, {zeros} zero bytes follow")]
    Padded {
        /// The length in bytes that the header asks for.
        expected: u64,
        /// The bytes after it.
        zeros: u64,
    },
    /// A tensor has a dtype that this version does not know.
    #[error("unknown dtype {found:?}")]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// The dtype's name.
        found: String,
    },
    /// A tensor's byte range does not fit its dtype and shape.
    #[error("{dtype}{shape:?} takes {expected} bytes, the header gives it {begin}..{end}")]
    WrongSize {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that it takes.
        expected: u64,
        /// Its first byte in the header, within the tensors' bytes.
        begin: u64,
        /// Its end in the header.
        end: u64,
    },
    /// A tensor does not begin where the one before it ends: a gap or an overlap.
    #[error("expected to begin at byte {expected} of the tensors' bytes, found {found}")]
    Misplaced {
        /// The tensor.
        tensor: String,
        /// The end of the tensor before it.
        expected: u64,
        /// Its first byte in the header.
        found: u64,
    },
    /// The tensors end elsewhere than the file.
    #[error("the tensors need a file of {expected} bytes, found {found}")]
    WrongLength {
        /// The length in bytes that the header asks for.
        expected: u64,
        /// The length of the file.
        found: u64,
    },
    /// A ceiling of [`Limits`](meta::Limits) is crossed.
    #[error("{what}: {found}, the limit is {limit}")]
    Limit {
        /// The tensor, where it is one.
        tensor: Option<String>,
        /// What is limited.
        what: &'static str,
        /// What the file has.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A repeated name, or an impossible shape.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Writing failed.
    #[error("cannot write the file")]
    Write(#[source] BoxError),
}

fn shown_char(found: Option<char>) -> String {
    found.map_or_else(|| "the header's end".into(), |it| format!("{it:?}"))
}

fn shown(byte: Option<u8>) -> String {
    byte.map_or_else(
        || "nothing".into(),
        |byte| format!("'{}'", byte.escape_ascii()),
    )
}

impl Error {
    /// The tensor at fault.
    #[must_use]
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Error::UnknownDtype { tensor, .. }
            | Error::WrongSize { tensor, .. }
            | Error::MissingField { tensor, .. }
            | Error::Misplaced { tensor, .. } => Some(tensor),
            Error::Limit { tensor, .. } => tensor.as_deref(),
            Error::Catalog(
                CatalogError::DuplicateName { name }
                | CatalogError::OutsideRecord { name, .. }
                | CatalogError::NoSize { name, .. },
            ) => Some(name),
            _ => None,
        }
    }

    fn kind_and_remedy(&self) -> (ErrorKind, &'static str) {
        match self {
            Error::Read(_) => (ErrorKind::Storage, "check the disk or the mount"),
            Error::Write(_) => (ErrorKind::Storage, "check the disk and the tensors' sizes"),
            Error::HeaderTooLong { .. } | Error::Limit { .. } => (
                ErrorKind::LimitExceeded,
                "raise the limit if you trust the file",
            ),
            Error::Catalog(CatalogError::NoMemory { .. }) => (
                ErrorKind::LimitExceeded,
                "free memory, or raise its limit (ulimit -v)",
            ),
            Error::UnknownDtype { .. } => (
                ErrorKind::Unsupported,
                "update tensorlift, or convert the tensor",
            ),
            Error::TooShort { .. } | Error::HeaderCutShort { .. } | Error::WrongLength { .. } => (
                ErrorKind::Malformed,
                "the file is cut short or has extra bytes: fetch it again",
            ),
            Error::Padded { .. } => (
                ErrorKind::Malformed,
                "cut the zeros off, or fetch the file again",
            ),
            _ => (
                ErrorKind::Malformed,
                "fetch the file again, or ask whoever wrote it",
            ),
        }
    }
}

impl From<Error> for meta::Error {
    fn from(error: Error) -> Self {
        let (kind, remedy) = error.kind_and_remedy();
        let tensor = error.tensor().map(str::to_owned);
        let error = meta::Error::new(kind, error).with_remedy(remedy);
        match tensor {
            Some(tensor) => error.with_tensor(tensor),
            None => error,
        }
    }
}
