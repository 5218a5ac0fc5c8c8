//! GPU memory as candle owns it. Written against candle's source; not built yet, see LIMITS.md.

use std::sync::Arc;

use bytemuck::Pod;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::{CudaDevice as CandleDevice, Storage};
use tensorlift::cuda::{CudaBuffer, CudaDevice};
use tensorlift::device::{DeviceError, Group};
use tensorlift::{Dtype, Error};

/// candle's device as a place for tensors, with groups of one dtype.
pub(crate) fn device(candle: &CandleDevice) -> Result<CudaDevice, DeviceError> {
    let ordinal = candle.cuda_stream().context().ordinal();
    CudaDevice::options(ordinal).one_dtype(true).build()
}

/// A group's memory as candle's, which frees it.
pub(crate) fn storage(
    group: Arc<dyn Group>,
    dtype: Dtype,
    device: &CandleDevice,
) -> Result<Option<Storage>, Error> {
    // The buffer must be its memory's only owner to be given away.
    let buffer = CudaBuffer::of(&*group);
    drop(group);
    let Some(buffer) = buffer.filter(|buffer| !buffer.is_empty()) else {
        return Ok(None);
    };
    let slice = match dtype {
        Dtype::I16 => CudaStorageSlice::I16(slice(buffer, device)?),
        Dtype::F16 => CudaStorageSlice::F16(slice(buffer, device)?),
        Dtype::BF16 => CudaStorageSlice::BF16(slice(buffer, device)?),
        Dtype::I32 => CudaStorageSlice::I32(slice(buffer, device)?),
        Dtype::U32 => CudaStorageSlice::U32(slice(buffer, device)?),
        Dtype::F32 => CudaStorageSlice::F32(slice(buffer, device)?),
        Dtype::I64 => CudaStorageSlice::I64(slice(buffer, device)?),
        Dtype::F64 => CudaStorageSlice::F64(slice(buffer, device)?),
        Dtype::F8E4M3 => CudaStorageSlice::F8E4M3(slice(buffer, device)?),
        Dtype::F8E8M0 => CudaStorageSlice::F8E8M0(slice(buffer, device)?),
        _ => CudaStorageSlice::U8(slice(buffer, device)?),
    };
    let device = device.clone();
    Ok(Some(Storage::Cuda(CudaStorage { slice, device })))
}

fn slice<T: DeviceRepr + Pod>(
    buffer: CudaBuffer,
    device: &CandleDevice,
) -> Result<CudaSlice<T>, DeviceError> {
    let stream = device.cuda_stream();
    buffer.into_slice(&stream).map_err(|(_, error)| error)
}
