use std::io;

use tensorlift_tensor_meta::{self as meta, BoxError, Dtype, ErrorKind};
use thiserror::Error;

/// Why a PyTorch file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// PyTorch has no such dtype.
    #[error("PyTorch has no dtype for {dtype}")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
    },
    /// PyTorch counts sizes and strides as signed 64-bit numbers, and 4-bit floats in pairs.
    #[error("{dtype}{shape:?} has no shape that PyTorch can count")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor is not as long as its storage.
    #[error("{dtype}{shape:?} takes {needed:?} bytes, its storage has {found}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that it takes, if that is a number.
        needed: Option<u64>,
        /// The bytes of its storage.
        found: u64,
    },
    /// A name is used twice.
    #[error("the name is given to two tensors")]
    DuplicateName {
        /// The name.
        tensor: String,
    },
    /// A storage's bytes are fewer or more than announced.
    #[error("storage {storage} was announced with {announced} bytes, found {found}")]
    StorageSize {
        /// The number of the storage.
        storage: usize,
        /// Its size in the description.
        announced: u64,
        /// The bytes handed in.
        found: u64,
    },
    /// More or fewer storages were handed in than announced.
    #[error("{announced} storages were announced, {found} handed in")]
    StorageCount {
        /// Their number in the description.
        announced: usize,
        /// The number handed in.
        found: usize,
    },
    /// The file could not be written.
    #[error("cannot write the file")]
    Io(#[from] io::Error),
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Archive(#[source] BoxError),
}

impl WriteError {
    /// The tensor at fault.
    #[must_use]
    pub fn tensor(&self) -> Option<&str> {
        match self {
            WriteError::Dtype { tensor, .. }
            | WriteError::Shape { tensor, .. }
            | WriteError::Size { tensor, .. }
            | WriteError::DuplicateName { tensor } => Some(tensor),
            _ => None,
        }
    }

    fn kind_and_remedy(&self) -> (ErrorKind, &'static str) {
        match self {
            WriteError::Dtype { .. } | WriteError::Shape { .. } => {
                (ErrorKind::Unsupported, "write it as safetensors")
            }
            WriteError::Io(_) | WriteError::Archive(_) => {
                (ErrorKind::Storage, "check the disk and the permissions")
            }
            _ => (ErrorKind::Misuse, "write the storages that were described"),
        }
    }
}

impl From<WriteError> for meta::Error {
    fn from(error: WriteError) -> Self {
        let (kind, remedy) = error.kind_and_remedy();
        let tensor = error.tensor().map(str::to_owned);
        let error = meta::Error::new(kind, error).with_remedy(remedy);
        match tensor {
            Some(tensor) => error.with_tensor(tensor),
            None => error,
        }
    }
}
