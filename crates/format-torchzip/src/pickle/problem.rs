//! What can be wrong with a pickle.

use tensorlift_tensor_meta::ErrorKind;
use thiserror::Error;

use super::budget::OutOfBudget;

/// What is wrong with a pickle.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PickleProblem {
    /// The bytes end before the pickle does.
    #[error("the bytes end within the pickle")]
    Truncated,
    /// No protocol has this opcode.
    #[error("{0:#04x} is no opcode of protocols 0 to 5")]
    UnknownOpcode(u8),
    /// The opcode needs data from outside the file.
    #[error("opcode {0} needs data from outside the file")]
    Outside(&'static str),
    /// The file declares a protocol that does not exist.
    #[error("expected a protocol up to 5, found {0}")]
    Protocol(u8),
    /// An opcode needs more objects than there are.
    #[error("opcode {0} needs more objects than there are")]
    Underflow(&'static str),
    /// An opcode needs a mark and there is none.
    #[error("opcode {0} needs a mark")]
    NoMark(&'static str),
    /// The memo has no object of this number.
    #[error("nothing was memorised as number {0}")]
    Memo(u64),
    /// Objects were added to a value that is not a container.
    #[error("opcode {opcode} cannot be applied to a {found}")]
    Target {
        /// The opcode.
        opcode: &'static str,
        /// What it was applied to.
        found: String,
    },
    /// A dict gets a key without a value.
    #[error("opcode {0} needs as many values as keys")]
    OddPairs(&'static str),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// The text of a number or string cannot be read.
    #[error("expected {expected}, found {found:?}")]
    Literal {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A length is negative or past what can be addressed.
    #[error("a length of {0} is impossible")]
    Length(i64),
    /// A name outside the closed list, under [`Policy::Strict`](crate::Policy::Strict).
    #[error("the class or function {0} is not on the list of known ones")]
    Forbidden(String),
    /// A ceiling was crossed.
    #[error("{what}: the limit is {limit}, found {found}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The ceiling.
        limit: u64,
        /// The count so far.
        found: u64,
    },
    /// The machine has no memory for the objects of the pickle.
    #[error("no memory for {bytes} bytes of objects")]
    NoMemory {
        /// The size of the allocation that failed, in bytes.
        bytes: u64,
    },
    /// A part of a legacy file, such as the magic number, is wrong.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
}

impl PickleProblem {
    pub(crate) const fn kind(&self) -> ErrorKind {
        match self {
            PickleProblem::Limit { .. } | PickleProblem::NoMemory { .. } => {
                ErrorKind::LimitExceeded
            }
            PickleProblem::Forbidden(_)
            | PickleProblem::Outside(_)
            | PickleProblem::Protocol(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Malformed,
        }
    }

    pub(crate) const fn is_forbidden(&self) -> bool {
        matches!(self, PickleProblem::Forbidden(_))
    }
}

impl From<OutOfBudget> for PickleProblem {
    fn from(out: OutOfBudget) -> Self {
        match out {
            OutOfBudget::Budget { total, wanted } => PickleProblem::Limit {
                what: "memory for the file's description, in bytes",
                limit: total,
                found: wanted,
            },
            OutOfBudget::Memory { bytes } => PickleProblem::NoMemory { bytes },
        }
    }
}

/// A problem and where it is.
#[derive(Debug)]
pub(crate) struct PickleError {
    pub(crate) offset: usize,
    pub(crate) problem: PickleProblem,
}
