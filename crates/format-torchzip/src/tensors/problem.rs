//! Errors in the description of a tensor.

use tensorlift_tensor_meta::{CatalogError, LayoutError};
use thiserror::Error;

/// What is wrong with the description of a tensor.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// An argument of the rebuild function has another type than it should.
    #[error("{function} expects {expected}, found {found}")]
    Argument {
        /// The function that PyTorch would call.
        function: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// The type of a storage is not known.
    #[error("expected a storage type or dtype, found {found}")]
    Dtype {
        /// What the file names.
        found: String,
    },
    /// The file has no storage of this key.
    #[error("storage {key:?} is missing")]
    MissingStorage {
        /// The key.
        key: String,
    },
    /// A storage is not as long as the pickle says.
    #[error("storage {key:?} should have {declared} bytes, found {found}")]
    StorageSize {
        /// The key.
        key: String,
        /// What the pickle says.
        declared: u64,
        /// What is there.
        found: u64,
    },
    /// A shape has more dimensions than allowed.
    #[error("it has {rank} dimensions, the limit is {limit}")]
    Rank {
        /// The number of dimensions.
        rank: usize,
        /// The ceiling.
        limit: usize,
    },
    /// Shape and strides are impossible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The tensor does not fit into its storage.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The elements reach past the end of the storage.
    #[error("it needs bytes {first}..{end} of a storage of {len} bytes")]
    OutsideStorage {
        /// The first byte needed.
        first: u64,
        /// The first byte past it, capped.
        end: u64,
        /// How long the storage is.
        len: u64,
    },
    /// A key names two different storages.
    #[error("the key {key:?} is {first} at first and {found} later")]
    Contradiction {
        /// The key.
        key: String,
        /// What it names where it is met first.
        first: String,
        /// What it names later.
        found: String,
    },
    /// The tensor has another dtype than the file, and elements are not converted.
    #[error("the file holds {found}, to be converted to {wanted}")]
    Conversion {
        /// The dtype in the file.
        found: String,
        /// The dtype of the tensor.
        wanted: String,
    },
    /// The tensor is of an unsupported kind.
    #[error("{0}")]
    Unsupported(String),
}
