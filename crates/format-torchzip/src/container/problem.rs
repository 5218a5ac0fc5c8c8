//! Errors of the layouts before 1.6, including the tar archive.

use thiserror::Error;

/// A contradiction in the tar layout or the legacy layout.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutProblem {
    /// The list of storages has a key that no object mentions.
    #[error("storage {key:?} is listed, but no object mentions it")]
    Unmentioned {
        /// The key.
        key: String,
    },
    /// The list of storages has a key twice.
    #[error("storage {key:?} is listed twice")]
    ListedTwice {
        /// The key.
        key: String,
    },
    /// A storage is not as long as the objects say.
    #[error("storage {key:?} should have {declared} elements, found {found}")]
    ElementCount {
        /// The key.
        key: String,
        /// The elements that the objects expect.
        declared: u64,
        /// The element count before its bytes.
        found: u64,
    },
    /// The bytes of a tensor that was pickled without `torch.save` hold no storage.
    #[error("expected a storage in the bytes of a pickled tensor, found {found}")]
    NoStorage {
        /// What they hold.
        found: String,
    },
    /// The tar archive lacks a member.
    #[error("expected a member {name:?} in the tar archive, found none")]
    NoMember {
        /// The member's name.
        name: &'static str,
    },
    /// The tar archive has two members with the same name.
    #[error("the tar archive has two members {name:?}")]
    TwoMembers {
        /// The name.
        name: String,
    },
    /// There is no tar header where the last member ends.
    #[error("expected a tar header at byte {offset}, found none")]
    NoHeader {
        /// Where it should be, in bytes.
        offset: u64,
    },
    /// A table of the tar archive holds an unexpected value.
    #[error("{table}: expected {expected} before byte {offset}")]
    Table {
        /// The table.
        table: &'static str,
        /// What should be there.
        expected: &'static str,
        /// The first byte after the value.
        offset: u64,
    },
    /// A description points past the end of the bytes.
    #[error("{what} is cut short")]
    CutShort {
        /// What is described.
        what: &'static str,
    },
}
