//! Loaded memory as candle owns it: each group is a flat tensor of one dtype.

use std::sync::Arc;

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use tensorlift::device::Group;
use tensorlift::{Dtype, Error, VecGroup, take_group};

/// The flat tensor of a group whose elements are of this dtype; `None` for a group of another
/// device.
pub(crate) fn flat(
    group: Arc<dyn Group>,
    dtype: Dtype,
    device: &Device,
) -> Result<Option<Tensor>, Error> {
    let elements = group.len() / dtype.alignment();
    let storage = match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::cuda::storage(group, dtype, device)?,
        _ => take_group(group)
            .ok()
            .and_then(|group| storage(group, dtype)),
    };
    let tensor = |storage| Tensor::from_storage(storage, elements, BackpropOp::none(), false);
    Ok(storage.map(tensor))
}

/// A vector as candle's; nothing is copied.
fn storage(group: VecGroup, dtype: Dtype) -> Option<Storage> {
    Some(Storage::Cpu(match (group, dtype) {
        (VecGroup::U8(bytes), Dtype::F8E8M0) => CpuStorage::F8E8M0(bytes),
        (VecGroup::U8(bytes), Dtype::F8E4M3) => CpuStorage::F8E4M3(bytemuck::cast_vec(bytes)),
        (VecGroup::U8(bytes), _) => CpuStorage::U8(bytes),
        (VecGroup::I16(elements), _) => CpuStorage::I16(elements),
        (VecGroup::F16(elements), _) => CpuStorage::F16(elements),
        (VecGroup::BF16(elements), _) => CpuStorage::BF16(elements),
        (VecGroup::I32(elements), _) => CpuStorage::I32(elements),
        (VecGroup::U32(elements), _) => CpuStorage::U32(elements),
        (VecGroup::F32(elements), _) => CpuStorage::F32(elements),
        (VecGroup::I64(elements), _) => CpuStorage::I64(elements),
        (VecGroup::F64(elements), _) => CpuStorage::F64(elements),
        _ => return None,
    }))
}

/// Whether candle has elements of this dtype, each a whole number of bytes.
pub(crate) fn is_supported(dtype: Dtype) -> bool {
    const DTYPES: [DType; 11] = [
        DType::U8,
        DType::U32,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::BF16,
        DType::F16,
        DType::F32,
        DType::F64,
        DType::F8E4M3,
        DType::F8E8M0,
    ];
    dtype == Dtype::Bool || DTYPES.iter().any(|it| dtype_of(*it) == Some(dtype))
}

/// The dtype of candle's, unless it is packed.
pub(crate) fn dtype_of(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F8E4M3 => Dtype::F8E4M3,
        DType::F8E8M0 => Dtype::F8E8M0,
        _ => return None,
    })
}
