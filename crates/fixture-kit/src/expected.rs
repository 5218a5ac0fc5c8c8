use std::fmt;

use sha2::{Digest, Sha256};
use tensorlift_tensor_meta::Dtype;

/// What a reader must find: a tensor and its row-major little-endian bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// The full name.
    pub name: String,
    /// The type of the elements.
    pub dtype: Dtype,
    /// The size of each dimension, in elements.
    pub shape: Vec<usize>,
    /// The elements in row-major order without gaps, conjugate and negative bits resolved.
    pub bytes: Vec<u8>,
    /// The shard that holds it, counted from 0.
    pub shard: usize,
    /// PyTorch's flag; false in safetensors files.
    pub requires_grad: bool,
}

impl ExpectedTensor {
    /// The SHA-256 of the bytes, in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256(&self.bytes)
    }
}

impl fmt::Debug for ExpectedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedTensor")
            .field("name", &self.name)
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("bytes", &self.bytes.len())
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

/// The SHA-256 of `bytes`, in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
