use std::collections::HashSet;
use std::io::{Seek, Write};

use tensorlift_tensor_meta::{Dtype, Layout};

use super::archive::ArchiveWriter;
use super::error::WriteError;
use super::kind::{Kind, torch_shape};

/// The tensors of a PyTorch file that is to be written, without their bytes.
#[derive(Debug, Default)]
pub struct StateDict {
    pub(super) tensors: Vec<StateDictTensor>,
    /// The length of each storage in bytes.
    pub(super) storages: Vec<u64>,
    names: HashSet<Box<str>>,
}

/// A storage of one [`StateDict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StorageId(usize);

/// A tensor as PyTorch describes it.
#[derive(Debug)]
pub(super) struct StateDictTensor {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    /// What the storage's length is counted in, in bytes.
    pub(super) unit: u64,
    pub(super) sizes: Vec<u64>,
    pub(super) strides: Vec<u64>,
    pub(super) storage: usize,
    pub(super) requires_grad: bool,
}

impl StateDict {
    /// A state dict without tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a storage of this size in bytes; storages are written in the order in which they
    /// are
    /// announced.
    pub fn storage(&mut self, bytes: u64) -> StorageId {
        self.storages.push(bytes);
        StorageId(self.storages.len() - 1)
    }

    /// Adds a row-major tensor that is the whole of a storage.
    ///
    /// `shape` counts elements. The flag `requires_grad` is dropped where PyTorch refuses it: for
    /// dtypes that are neither floating point nor complex.
    ///
    /// # Errors
    /// If the name is taken, PyTorch has no such dtype or shape, or the storage has another size.
    ///
    /// # Panics
    /// If the storage is of another state dict.
    pub fn tensor(
        &mut self,
        name: impl Into<Box<str>>,
        dtype: Dtype,
        shape: &[usize],
        storage: StorageId,
        requires_grad: bool,
    ) -> Result<(), WriteError> {
        let name = name.into();
        let Some(kind) = Kind::of(dtype) else {
            let tensor = name.into();
            return Err(WriteError::Dtype { tensor, dtype });
        };
        let Some((sizes, strides)) = torch_shape(dtype, shape) else {
            return Err(WriteError::Shape {
                tensor: name.into(),
                dtype,
                shape: shape.to_vec(),
            });
        };
        let layout = Layout::contiguous(shape).ok();
        let needed = layout.and_then(|layout| layout.contiguous_bytes(dtype));
        let found = self.storages[storage.0];
        if needed != Some(found) {
            return Err(WriteError::Size {
                tensor: name.into(),
                dtype,
                shape: shape.to_vec(),
                needed,
                found,
            });
        }
        if !self.names.insert(name.clone()) {
            return Err(WriteError::DuplicateName {
                tensor: name.into(),
            });
        }
        let unit = match kind {
            Kind::Typed(_) => dtype.alignment() as u64,
            Kind::Untyped(_) => 1,
        };
        self.tensors.push(StateDictTensor {
            name,
            kind,
            unit,
            sizes,
            strides,
            storage: storage.0,
            requires_grad: requires_grad && is_differentiable(dtype),
        });
        Ok(())
    }

    /// Writes the description; the storages follow through the writer that is returned.
    ///
    /// Small writes are many, so `out` should be buffered.
    ///
    /// # Errors
    /// If `out` refuses.
    pub fn begin<W: Write + Seek>(self, out: W) -> Result<ArchiveWriter<W>, WriteError> {
        ArchiveWriter::begin(self, out)
    }
}

fn is_differentiable(dtype: Dtype) -> bool {
    dtype.is_complex() || matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}
