use thiserror::Error;

use crate::{Dtype, LayoutError};

/// An impossible description.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogError {
    /// Two entries have the same name.
    #[error("the name {name:?} is given to two tensors")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Several entries would get the same name.
    #[error("the tensors {from:?} would all be called {name:?}")]
    SameName {
        /// The name.
        name: String,
        /// The names that the entries have.
        from: Vec<String>,
    },
    /// An entry reaches past the end of its record.
    #[error("tensor {name:?} needs bytes {first}..{end} of a record of {len} bytes")]
    OutsideRecord {
        /// The entry.
        name: String,
        /// Where it begins in the record.
        first: u64,
        /// The first byte past it.
        end: u64,
        /// How long the record is.
        len: u64,
    },
    /// The size of an entry is not a whole number of bytes, or overflows.
    #[error("tensor {name:?} of dtype {dtype} and shape {shape:?} has no size in whole bytes")]
    NoSize {
        /// The entry.
        name: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The shape or the strides are impossible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A tensor cannot be divided along a dimension.
    #[error("tensor {name:?} of shape {shape:?} cannot be divided along dimension {dim}")]
    NoSlice {
        /// The entry.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The dimension.
        dim: usize,
    },
    /// More than `u32::MAX` records or entries.
    #[error("more than {} records or tensors", u32::MAX)]
    TooMany,
    /// The system has no memory for another record or entry.
    #[error("no memory to list more than {listed} tensors")]
    NoMemory {
        /// The entries that there was memory for.
        listed: usize,
    },
}
