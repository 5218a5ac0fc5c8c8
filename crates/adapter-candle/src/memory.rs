//! Memory as candle owns it: one typed allocation for each group, handed out as a flat tensor.

use std::any::Any;

use bytemuck::{cast_slice_mut, zeroed_vec};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, Storage, Tensor};
use tensorlift::device::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules};
use tensorlift::{Dtype, HostDevice};

/// Host memory whose groups become flat candle tensors of one dtype.
#[derive(Debug)]
pub(crate) struct CandleMemory;

/// A storage that is filled, and then the flat tensor that owns it.
#[derive(Debug)]
struct CandleGroup {
    bytes: usize,
    storage: Option<CpuStorage>,
    flat: Option<Tensor>,
}

/// The flat tensor of a finished group.
pub(crate) fn flat(group: &dyn Group) -> Option<&Tensor> {
    let group: &dyn Any = group;
    #[cfg(feature = "cuda")]
    if let Some(group) = group.downcast_ref::<crate::cuda::CandleCudaGroup>() {
        return group.flat();
    }
    group.downcast_ref::<CandleGroup>()?.flat.as_ref()
}

/// Zeros of a dtype; `None` for those that candle does not have.
fn zeros(dtype: Dtype, bytes: usize) -> Option<CpuStorage> {
    Some(match dtype {
        Dtype::Bool | Dtype::U8 => CpuStorage::U8(zeroed_vec(bytes)),
        Dtype::F8E8M0 => CpuStorage::F8E8M0(zeroed_vec(bytes)),
        Dtype::F8E4M3 => CpuStorage::F8E4M3(zeroed_vec(bytes)),
        Dtype::I16 => CpuStorage::I16(zeroed_vec(bytes / 2)),
        Dtype::F16 => CpuStorage::F16(zeroed_vec(bytes / 2)),
        Dtype::BF16 => CpuStorage::BF16(zeroed_vec(bytes / 2)),
        Dtype::I32 => CpuStorage::I32(zeroed_vec(bytes / 4)),
        Dtype::U32 => CpuStorage::U32(zeroed_vec(bytes / 4)),
        Dtype::F32 => CpuStorage::F32(zeroed_vec(bytes / 4)),
        Dtype::I64 => CpuStorage::I64(zeroed_vec(bytes / 8)),
        Dtype::F64 => CpuStorage::F64(zeroed_vec(bytes / 8)),
        _ => return None,
    })
}

/// Whether candle has elements of this dtype, each a whole number of bytes.
pub(crate) fn is_supported(dtype: Dtype) -> bool {
    zeros(dtype, 0).is_some()
}

fn bytes_of(storage: &mut CpuStorage) -> &mut [u8] {
    match storage {
        CpuStorage::U8(bytes)
        | CpuStorage::F6E2M3(bytes)
        | CpuStorage::F6E3M2(bytes)
        | CpuStorage::F4(bytes)
        | CpuStorage::F8E8M0(bytes) => bytes,
        CpuStorage::F8E4M3(elements) => cast_slice_mut(elements),
        CpuStorage::I16(elements) => cast_slice_mut(elements),
        CpuStorage::F16(elements) => cast_slice_mut(elements),
        CpuStorage::BF16(elements) => cast_slice_mut(elements),
        CpuStorage::I32(elements) => cast_slice_mut(elements),
        CpuStorage::U32(elements) => cast_slice_mut(elements),
        CpuStorage::F32(elements) => cast_slice_mut(elements),
        CpuStorage::I64(elements) => cast_slice_mut(elements),
        CpuStorage::F64(elements) => cast_slice_mut(elements),
    }
}

impl Device for CandleMemory {
    fn name(&self) -> String {
        "candle:cpu".into()
    }

    fn rules(&self) -> GroupRules {
        let mut rules = GroupRules::default();
        rules.one_dtype = true;
        rules
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        HostDevice::new().reserve(bytes)
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let storage = request.dtype.and_then(|dtype| zeros(dtype, request.bytes));
        let storage = storage.ok_or_else(|| DeviceError::Unavailable {
            device: self.name(),
            reason: format!("candle has no elements of {:?}", request.dtype),
        })?;
        Ok(Box::new(CandleGroup {
            bytes: request.bytes,
            storage: Some(storage),
            flat: None,
        }))
    }
}

impl Group for CandleGroup {
    fn len(&self) -> usize {
        self.bytes
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Host(self.storage.as_mut().map_or(&mut [], bytes_of))
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        if let Some(storage) = self.storage.take() {
            let storage = Storage::Cpu(storage);
            let elements = self.bytes / storage.dtype().size_in_bytes().max(1);
            let flat = Tensor::from_storage(storage, elements, BackpropOp::none(), false);
            self.flat = Some(flat);
        }
        Ok(())
    }

    /// The bytes belong to candle once they have arrived.
    fn as_host(&self) -> Option<&[u8]> {
        None
    }
}
