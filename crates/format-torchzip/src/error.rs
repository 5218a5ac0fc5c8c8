use std::io;

use tensorlift_tensor_meta::{self as meta, CatalogError, ErrorKind, Extent};
use thiserror::Error;

use crate::container::LayoutProblem;
use crate::container::unclaimed::Unclaimed;
use crate::container::zip::ArchiveProblem;
use crate::pickle::{OutOfBudget, PickleProblem};
use crate::tensors::TensorProblem;

/// A result with this crate's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read as a PyTorch checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage could not be read.
    #[error("reading {what} failed")]
    Io {
        /// What was being read.
        what: &'static str,
        /// What the storage reported.
        source: io::Error,
    },
    /// The file does not begin like a PyTorch file.
    #[error("expected a PyTorch checkpoint, found a file that does not begin like one")]
    NotTorch,
    /// The archive as a whole is broken, or it is more than one.
    #[error("the archive is broken: {0}")]
    Archive(ArchiveProblem),
    /// The file ends too early, or its end was overwritten.
    #[error("its end is missing: the file was cut short at {len} bytes")]
    CutShort {
        /// The length of the file in bytes.
        len: u64,
    },
    /// The file ends in zeros where its end should be.
    #[error("its end is missing: the last {zeros} of its {len} bytes are zero")]
    ZerosAtEnd {
        /// The number of zero bytes at its end, of which no more than 64 MiB are counted.
        zeros: u64,
        /// The length of the file in bytes.
        len: u64,
    },
    /// The file holds bytes that no part of its format claims, and the policy is strict.
    #[error("{0} belong to no part of the file")]
    Unclaimed(Unclaimed),
    /// An entry of the archive contradicts the others, the directory or itself.
    #[error("entry {entry:?} of the archive: {problem}")]
    Entry {
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// The archive is a zip file of another kind.
    #[error("expected an archive with a data.pkl in its root folder, found {found}")]
    NoPickle {
        /// What the archive holds instead.
        found: String,
    },
    /// The `byteorder` record names neither order.
    #[error("expected byteorder \"little\" or \"big\", found {found:?}")]
    ByteOrder {
        /// What it says.
        found: String,
    },
    /// The file begins with a number, but it is not that of the format before 1.6.
    #[error(
        "expected the magic number 0x1950a86a20f9469cfc6c or a container, found the number {found}"
    )]
    Magic {
        /// The number.
        found: String,
    },
    /// The file is a pickle of an object that cannot hold tensors.
    #[error("expected a pickled dict, list or other container, found {found}")]
    NoContainer {
        /// What it is.
        found: String,
    },
    /// Another pickle follows the pickle or the last storage.
    #[error("the file holds more than one object: another begins at byte {offset}")]
    SecondObject {
        /// Where it begins.
        offset: u64,
    },
    /// A pickle is malformed or unsupported.
    #[error("{pickle}, byte {offset}: {problem}")]
    Pickle {
        /// Which pickle of the file.
        pickle: &'static str,
        /// Where in the pickle, in bytes.
        offset: u64,
        /// What is wrong.
        problem: PickleProblem,
    },
    /// The description of a tensor is impossible.
    #[error("tensor {tensor:?}: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// The older tar layout or the legacy layout contradicts itself.
    #[error("{0}")]
    Layout(LayoutProblem),
    /// A ceiling of [`Limits`](tensorlift_tensor_meta::Limits) was crossed.
    #[error("{what}: the limit is {limit}, found {found}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The ceiling.
        limit: u64,
        /// The count so far.
        found: u64,
    },
    /// The machine has no memory for the description.
    #[error("no memory for {bytes} bytes of the file's description")]
    NoMemory {
        /// The size of the allocation that failed, in bytes.
        bytes: u64,
    },
    /// A value cannot be represented as [`serde_pickle::Value`].
    #[error("the state cannot be represented as a value: {0}")]
    State(String),
}

/// What is wrong with an entry of a zip archive.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryProblem {
    /// Two entries have one name, as PyTorch compares names: without regard to case.
    #[error("its name is given twice, before as {other:?}")]
    Duplicate {
        /// The name of the other entry.
        other: String,
    },
    /// The directory puts the entry on another disk.
    #[error("the directory puts it on disk {disk}")]
    OtherDisk {
        /// The number of the disk.
        disk: u16,
    },
    /// The name has a zero byte in it, where some readers end it.
    #[error("its name has a zero byte in it")]
    ZeroInName,
    /// The extra fields are longer than the record that holds them.
    #[error("its extra fields do not end where they should")]
    ExtraFields,
    /// A size or offset refers to a zip64 field that is missing, too short or repeated.
    #[error("expected one zip64 field with its sizes and offset, found none or another")]
    Zip64Field,
    /// Directory and local header describe different data.
    #[error("its {what} is {found} in its local header, but {expected} in the directory")]
    LocalHeader {
        /// What differs.
        what: &'static str,
        /// The value in the local header.
        found: u64,
        /// The value in the directory.
        expected: u64,
    },
    /// The descriptor after the data is missing or contradicts the directory.
    #[error("expected its sizes and CRC-32 after its data, as the directory has them")]
    Descriptor,
    /// Two entries claim the same bytes.
    #[error("its bytes {start}..{end} overlap those of entry {other:?}")]
    Overlap {
        /// The first byte, header included.
        start: u64,
        /// The first byte past it.
        end: u64,
        /// The other entry.
        other: String,
    },
    /// The entry reaches into the directory or past the end of the file.
    #[error("its bytes {start}..{end} reach past byte {limit}, where the directory begins")]
    PastDirectory {
        /// The first byte, header included.
        start: u64,
        /// The first byte past it.
        end: u64,
        /// Where the directory begins.
        limit: u64,
    },
    /// There is no local header where the directory says.
    #[error("expected a local header at byte {offset}, found none")]
    NoLocalHeader {
        /// Where it should be.
        offset: u64,
    },
    /// Directory and local header name different entries.
    #[error("its local header says {found:?}")]
    OtherName {
        /// The name in the local header.
        found: String,
    },
    /// The entry is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// The compression method is neither stored nor deflate.
    #[error("expected it stored or deflated, found compression method {method}")]
    Method {
        /// The number of the method in APPNOTE.TXT, section 4.4.5.
        method: u16,
    },
    /// A stored entry declares two sizes.
    #[error("it is stored, but declares {compressed} bytes in the archive and {size} outside")]
    StoredSizes {
        /// The declared size in the archive.
        compressed: u64,
        /// The declared size outside.
        size: u64,
    },
    /// A deflate stream cannot expand that much.
    #[error("{compressed} bytes cannot inflate to the declared {size}")]
    Ratio {
        /// The declared size in the archive.
        compressed: u64,
        /// The declared size outside.
        size: u64,
    },
    /// The deflate stream is broken or its length differs from the declared one.
    #[error("expected a deflate stream of {declared} bytes: {found}")]
    Inflate {
        /// The declared size.
        declared: u64,
        /// What was found.
        found: String,
    },
    /// The bytes do not have the declared CRC-32.
    #[error("expected CRC-32 {declared:08x}, found {found:08x}")]
    Crc {
        /// The declared checksum.
        declared: u32,
        /// That of the bytes.
        found: u32,
    },
    /// The name leaves its folder.
    #[error("its name has a `..` in it")]
    Escapes,
}

/// Not derived: the problem would become a source too, and its message would be shown twice.
impl From<ArchiveProblem> for Error {
    fn from(problem: ArchiveProblem) -> Self {
        Error::Archive(problem)
    }
}

impl From<Error> for meta::Error {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let tensor = match &error {
            Error::Tensor { tensor, .. } => Some(tensor.clone()),
            _ => None,
        };
        let extent = match &error {
            Error::Entry {
                problem:
                    EntryProblem::Overlap { start, end, .. }
                    | EntryProblem::PastDirectory { start, end, .. },
                ..
            } => Some(Extent::new(
                meta::ShardId::FIRST,
                *start,
                end.saturating_sub(*start),
            )),
            _ => None,
        };
        let remedy = error.remedy();
        // The outer error names the tensor, so the inner one does not.
        let mut outer = match error {
            Error::Tensor { problem, .. } => meta::Error::new(kind, problem),
            other => meta::Error::new(kind, other),
        };
        if let Some(tensor) = tensor {
            outer = outer.with_tensor(tensor);
        }
        if let Some(extent) = extent {
            outer = outer.with_extent(extent);
        }
        outer.with_remedy(remedy)
    }
}

/// What numbers of 32 bits count, which no limit raises.
const NUMBERED: u64 = u32::MAX as u64 - 1024;

impl Error {
    /// Who must act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Storage,
            Error::Limit { .. } | Error::NoMemory { .. } => ErrorKind::LimitExceeded,
            Error::Pickle { problem, .. } => problem.kind(),
            Error::Entry {
                problem: EntryProblem::Encrypted | EntryProblem::Method { .. },
                ..
            }
            | Error::NoPickle { .. }
            | Error::State(_)
            | Error::Tensor {
                problem:
                    TensorProblem::Unsupported(_)
                    | TensorProblem::Dtype { .. }
                    | TensorProblem::Conversion { .. },
                ..
            } => ErrorKind::Unsupported,
            Error::Tensor {
                problem:
                    TensorProblem::Rank { .. } | TensorProblem::Catalog(CatalogError::NoMemory { .. }),
                ..
            } => ErrorKind::LimitExceeded,
            _ => ErrorKind::Malformed,
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Error::NotTorch => "check that this is the right file",
            Error::Magic { .. } => "the first bytes of the file are damaged: fetch it again",
            Error::NoContainer { .. } => "check that this is the right file",
            Error::SecondObject { .. } => {
                "cut the file at that byte, `head -c OFFSET` and `tail -c +OFFSET+1`, and read each part"
            }
            Error::Archive(problem) => problem.remedy(),
            Error::ZerosAtEnd { .. } => "a download or a copy stopped early: fetch the file again",
            Error::Unclaimed(_) => "read it without the strict policy, which ignores such bytes",
            Error::NoPickle { .. } => "open it with a program for that kind of archive",
            Error::Pickle { problem, .. } if problem.is_forbidden() => {
                "read it with the inert policy, which keeps unknown classes as plain data"
            }
            Error::Entry {
                problem: EntryProblem::Encrypted,
                ..
            } => "decrypt it and save it again",
            Error::NoMemory { .. }
            | Error::Tensor {
                problem: TensorProblem::Catalog(CatalogError::NoMemory { .. }),
                ..
            } => "free memory, or raise its limit (ulimit -v)",
            Error::Limit { limit, .. } if *limit >= NUMBERED => {
                "save the checkpoint in several files"
            }
            _ => match self.kind() {
                ErrorKind::Storage => "check the disk and the permissions",
                ErrorKind::LimitExceeded => "raise the limit if the file is trusted",
                ErrorKind::Unsupported => "save the model's state dict with a plain torch.save",
                _ => "fetch or save the file again",
            },
        }
    }

    /// A problem with the tensor of this name.
    pub(crate) fn tensor(name: &str, problem: TensorProblem) -> Self {
        // Names can be long, but an error is one line.
        let tensor = match name.char_indices().nth(200) {
            Some((cut, _)) => format!("{}…", &name[..cut]),
            None => name.to_owned(),
        };
        Error::Tensor { tensor, problem }
    }

    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            // The description points past the end.
            io::ErrorKind::UnexpectedEof => Error::Layout(LayoutProblem::CutShort { what }),
            _ => Error::Io { what, source },
        }
    }

    pub(crate) fn budget(out: OutOfBudget) -> Self {
        match out {
            OutOfBudget::Budget { total, wanted } => Error::Limit {
                what: "memory for the file's description, in bytes",
                limit: total,
                found: wanted,
            },
            OutOfBudget::Memory { bytes } => Error::NoMemory { bytes },
        }
    }

    pub(crate) fn entry(entry: impl Into<String>, problem: EntryProblem) -> Self {
        Error::Entry {
            entry: entry.into(),
            problem,
        }
    }
}
