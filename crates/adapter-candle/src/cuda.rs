//! GPU memory as candle owns it. Written against candle's source; not built yet, see LIMITS.md.

use bytemuck::Pod;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice as CandleDevice, Storage, Tensor};
use tensorlift::Dtype;
use tensorlift::cuda::{CudaBuffer, CudaDevice};
use tensorlift::device::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules};

/// A CUDA device whose groups become flat candle tensors of one dtype.
#[derive(Debug)]
pub(crate) struct CandleCuda {
    device: CudaDevice,
    candle: CandleDevice,
}

/// A group that is filled, and then the flat tensor that owns its memory.
#[derive(Debug)]
pub(crate) struct CandleCudaGroup {
    group: Option<Box<dyn Group>>,
    bytes: usize,
    dtype: Dtype,
    candle: CandleDevice,
    flat: Option<Tensor>,
}

impl CandleCuda {
    pub(crate) fn new(candle: &CandleDevice) -> Result<Self, DeviceError> {
        let ordinal = candle.cuda_stream().context().ordinal();
        let device = CudaDevice::options(ordinal).one_dtype(true).build()?;
        Ok(Self {
            device,
            candle: candle.clone(),
        })
    }
}

impl CandleCudaGroup {
    pub(crate) fn flat(&self) -> Option<&Tensor> {
        self.flat.as_ref()
    }

    /// The whole buffer as a slice that frees it.
    fn slice<T: DeviceRepr + Pod>(&self, buffer: CudaBuffer) -> Result<CudaSlice<T>, DeviceError> {
        let stream = self.candle.cuda_stream();
        buffer.into_slice(&stream).map_err(|(_, error)| error)
    }
}

impl Device for CandleCuda {
    fn name(&self) -> String {
        format!("candle:{}", self.device.name())
    }

    fn rules(&self) -> GroupRules {
        self.device.rules()
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        self.device.reserve(bytes)
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        Ok(Box::new(CandleCudaGroup {
            group: Some(self.device.allocate(request)?),
            bytes: request.bytes,
            dtype: request.dtype.unwrap_or(Dtype::U8),
            candle: self.candle.clone(),
            flat: None,
        }))
    }
}

impl Group for CandleCudaGroup {
    fn len(&self) -> usize {
        self.bytes
    }

    fn destination(&mut self) -> Destination<'_> {
        match &mut self.group {
            Some(group) => group.destination(),
            None => Destination::Host(&mut []),
        }
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        let Some(mut group) = self.group.take() else {
            return Ok(());
        };
        group.finish()?;
        // The buffer must be its memory's only owner to be given away.
        let buffer = CudaBuffer::of(&*group);
        drop(group);
        let Some(buffer) = buffer.filter(|buffer| !buffer.is_empty()) else {
            return Ok(());
        };
        let slice = match self.dtype {
            Dtype::I16 => CudaStorageSlice::I16(self.slice(buffer)?),
            Dtype::F16 => CudaStorageSlice::F16(self.slice(buffer)?),
            Dtype::BF16 => CudaStorageSlice::BF16(self.slice(buffer)?),
            Dtype::I32 => CudaStorageSlice::I32(self.slice(buffer)?),
            Dtype::U32 => CudaStorageSlice::U32(self.slice(buffer)?),
            Dtype::F32 => CudaStorageSlice::F32(self.slice(buffer)?),
            Dtype::I64 => CudaStorageSlice::I64(self.slice(buffer)?),
            Dtype::F64 => CudaStorageSlice::F64(self.slice(buffer)?),
            Dtype::F8E4M3 => CudaStorageSlice::F8E4M3(self.slice(buffer)?),
            Dtype::F8E8M0 => CudaStorageSlice::F8E8M0(self.slice(buffer)?),
            _ => CudaStorageSlice::U8(self.slice(buffer)?),
        };
        let device = self.candle.clone();
        let storage = Storage::Cuda(CudaStorage { slice, device });
        let elements = self.bytes / storage.dtype().size_in_bytes().max(1);
        self.flat = Some(Tensor::from_storage(
            storage,
            elements,
            BackpropOp::none(),
            false,
        ));
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        None
    }
}
