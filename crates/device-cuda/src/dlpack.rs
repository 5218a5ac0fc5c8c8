//! DLPack: tensors for every framework that speaks it, without a copy.
//!
//! [`CudaBuffer::dlpack`](crate::CudaBuffer::dlpack) exports tensors on a device; a [`Tensor`]
//! exports any memory whose owner can be shared, host groups too.
//! The export keeps its owner alive until the framework calls the deleter.
//!
//! ```
//! use std::sync::Arc;
//! use tensorlift_device_cuda::dlpack::{self, DlManagedTensorVersioned, Exported, Tensor};
//! use tensorlift_tensor_meta::{Dtype, Layout};
//!
//! let bytes: Arc<[u8; 8]> = Arc::new([0; 8]);
//! let tensor = Tensor {
//!     address: bytes.as_ptr() as u64,
//!     device: dlpack::HOST,
//!     dtype: Dtype::F32,
//!     layout: &Layout::contiguous([2])?,
//!     read_only: true,
//!     owner: bytes,
//! };
//! let exported: Exported<DlManagedTensorVersioned> = tensor.export()?;
//! assert_eq!(exported.managed().tensor.ndim, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::any::Any;
use std::sync::Arc;

use tensorlift_tensor_meta::{Dtype, Layout};
use thiserror::Error;

use crate::driver::dlpack::{Parts, Sealed};

pub use crate::driver::dlpack::{
    DlDataType, DlDevice, DlManagedTensor, DlManagedTensorVersioned, DlTensor, DlVersion, Exported,
    READ_ONLY, Sealed as Managed,
};

/// `kDLCUDA`.
pub const CUDA: i32 = 2;

/// Host memory: `kDLCPU`, of which there is one.
pub const HOST: DlDevice = DlDevice { kind: 1, id: 0 };

/// A tensor to export.
///
/// Nothing here reads the memory. The consumer of the export reads it, and relies on the address
/// being valid for the layout while the owner lives.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// The address of the first element, on the device.
    pub address: u64,
    /// Where it lies.
    pub device: DlDevice,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Shape and strides.
    pub layout: &'a Layout,
    /// Whether it must not be written to. DLPack before 1.0 cannot say so.
    pub read_only: bool,
    /// What keeps the memory alive.
    pub owner: Arc<dyn Any + Send + Sync>,
}

/// A tensor that DLPack cannot describe.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DlpackError {
    /// The dtype has no code, or its elements share bytes.
    #[error("DLPack has no type for {dtype}")]
    Dtype {
        /// The dtype.
        dtype: Dtype,
    },
    /// The bytes are not the values yet: swapped, conjugated or negated.
    #[error("the tensor's bytes are not its values: resolve byte order, conj and neg bits first")]
    NotPlain,
    /// A size is larger than DLPack counts.
    #[error("shape or strides exceed what DLPack counts")]
    TooLarge,
    /// The tensor leaves its memory.
    #[error("the tensor at byte {start} leaves the {len} bytes of its group")]
    Outside {
        /// Its first byte.
        start: usize,
        /// Bytes of the group.
        len: usize,
    },
}

impl Tensor<'_> {
    /// Exports as [`DlManagedTensorVersioned`] (DLPack 1.0 and later) or [`DlManagedTensor`].
    ///
    /// # Errors
    /// If DLPack cannot describe it.
    pub fn export<M: Sealed>(self) -> Result<Exported<M>, DlpackError> {
        let dtype = self.dtype;
        let dl = data_type(dtype).ok_or(DlpackError::Dtype { dtype })?;
        if !self.layout.is_plain(dtype) {
            return Err(DlpackError::NotPlain);
        }
        let shape = self.layout.shape();
        i32::try_from(shape.len()).map_err(|_| DlpackError::TooLarge)?;
        let mut sizes = Vec::with_capacity(2 * shape.len());
        push_counts(&mut sizes, shape)?;
        match self.layout.strides() {
            Some(strides) => push_counts(&mut sizes, strides)?,
            None => push_row_major(&mut sizes),
        }
        Ok(Exported::new(Parts {
            address: self.address,
            device: self.device,
            dtype: dl,
            sizes: sizes.into(),
            read_only: self.read_only,
            owner: self.owner,
        }))
    }
}

fn push_counts(counts: &mut Vec<i64>, sizes: &[usize]) -> Result<(), DlpackError> {
    for &size in sizes {
        counts.push(i64::try_from(size).map_err(|_| DlpackError::TooLarge)?);
    }
    Ok(())
}

/// Adds the strides of the row-major order behind a shape.
fn push_row_major(sizes: &mut Vec<i64>) {
    let dims = sizes.len();
    sizes.resize(2 * dims, 1);
    for dim in (1..dims).rev() {
        // The product overflows only for tensors without elements.
        sizes[dims + dim - 1] = sizes[dims + dim].saturating_mul(sizes[dim].max(1));
    }
}

/// The type as `DLDataTypeCode` and width.
fn data_type(dtype: Dtype) -> Option<DlDataType> {
    let code = match dtype {
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 0,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => 1,
        Dtype::F16 | Dtype::F32 | Dtype::F64 => 2,
        Dtype::BF16 => 4,
        Dtype::C32 | Dtype::C64 | Dtype::C128 => 5,
        Dtype::Bool => 6,
        Dtype::F8E4M3 => 10,
        Dtype::F8E4M3Fnuz => 11,
        Dtype::F8E5M2 => 12,
        Dtype::F8E5M2Fnuz => 13,
        Dtype::F8E8M0 => 14,
        _ => return None,
    };
    Some(DlDataType {
        code,
        bits: u8::try_from(dtype.bits()).ok()?,
        lanes: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<'a>(dtype: Dtype, layout: &'a Layout, owner: &Arc<[u64; 8]>) -> Tensor<'a> {
        Tensor {
            address: owner.as_ptr() as u64,
            device: HOST,
            dtype,
            layout,
            read_only: true,
            owner: Arc::clone(owner) as Arc<dyn Any + Send + Sync>,
        }
    }

    #[test]
    fn an_export_keeps_its_owner_until_it_is_given_back() {
        let owner = Arc::new([7u64; 8]);
        let layout = Layout::contiguous([2, 3]).unwrap();
        let unversioned: Exported<DlManagedTensor> =
            tensor(Dtype::BF16, &layout, &owner).export().unwrap();
        let versioned: Exported<DlManagedTensorVersioned> =
            tensor(Dtype::BF16, &layout, &owner).export().unwrap();
        assert_eq!(Arc::strong_count(&owner), 3);
        let seen = versioned.managed();
        assert_eq!((seen.version.major, seen.flags), (1, READ_ONLY));
        assert_eq!(seen.tensor.ndim, 2);
        assert_eq!(seen.tensor.dtype.code, 4);
        assert_eq!(seen.tensor.data.addr(), owner.as_ptr().addr());
        drop(unversioned);
        drop(versioned);
        assert_eq!(Arc::strong_count(&owner), 1);
    }

    #[test]
    fn strides_are_always_written() {
        let with_strides = |shape: &[i64]| {
            let mut sizes = shape.to_vec();
            push_row_major(&mut sizes);
            sizes
        };
        assert_eq!(with_strides(&[2, 3, 4]), [2, 3, 4, 12, 4, 1]);
        assert_eq!(with_strides(&[]), [0i64; 0]);
        assert_eq!(with_strides(&[5, 0]), [5, 0, 1, 1]);
    }

    #[test]
    fn what_dlpack_cannot_say_is_an_error() {
        let owner = Arc::new([0u64; 8]);
        let layout = Layout::contiguous([4]).unwrap();
        let export = |dtype, layout: &Layout| {
            let exported = tensor(dtype, layout, &owner).export::<DlManagedTensor>();
            exported.map(drop)
        };
        let packed = Err(DlpackError::Dtype { dtype: Dtype::F4 });
        assert_eq!(export(Dtype::F4, &layout), packed);
        let big = layout.with_byte_order(tensorlift_tensor_meta::ByteOrder::Big);
        assert_eq!(export(Dtype::F32, &big), Err(DlpackError::NotPlain));
        assert_eq!(export(Dtype::U8, &big), Ok(()));
        let huge = Layout::contiguous([usize::MAX, 0]).unwrap();
        assert_eq!(export(Dtype::U8, &huge), Err(DlpackError::TooLarge));
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}
