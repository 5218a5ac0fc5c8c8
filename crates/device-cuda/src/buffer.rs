use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys::CUcontext;
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};
use tensorlift_device::{DeviceError, Group};
use tensorlift_tensor_meta::{Dtype, Layout};

use crate::CudaGroup;
use crate::compact;
use crate::device::allocate;
use crate::dlpack::{self, DlDevice, DlpackError};
use crate::driver::interop::{self, NoSlice, SharedSlice};
use crate::driver::{Allocation, dlpack::Exported};
use crate::error::{failed, misuse};

/// The memory of a finished group, shared: cheap to clone, freed with its last clone.
///
/// All its bytes have arrived and the host has waited for them, so any stream may read them without
/// waiting.
/// Once an address was handed out ([`address`](Self::address), a slice, DLPack), the memory is
/// freed only after all work that was enqueued on the device before.
#[derive(Clone, Debug)]
pub struct CudaBuffer {
    memory: Arc<Allocation>,
}

/// # Properties
impl CudaBuffer {
    /// The memory of a group, if it is one of a CUDA device, and finished.
    #[must_use]
    pub fn of(group: &dyn Group) -> Option<Self> {
        let group: &dyn Any = group;
        group.downcast_ref::<CudaGroup>()?.buffer()
    }

    pub(crate) fn new(memory: Arc<Allocation>) -> Self {
        Self { memory }
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of its device.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.memory.context().ordinal()
    }

    /// The device address of the first byte, a `CUdeviceptr`; 0 for an empty buffer.
    ///
    /// It is valid while any clone of the buffer lives.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.memory.expose()
    }

    /// The context that the memory belongs to: the device's primary one.
    #[must_use]
    pub fn context(&self) -> CUcontext {
        self.memory.context().raw()
    }
}

/// # Reading back
impl CudaBuffer {
    /// A copy of all bytes on the host.
    ///
    /// # Errors
    /// If the device failed.
    pub fn to_host(&self) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes from `start` on to the host.
    ///
    /// # Errors
    /// If they are not all inside, or the device failed.
    pub fn read(&self, start: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        let operation = format!("copy {} bytes to the host", to.len());
        if !self.memory.holds(start, to.len()) {
            let found = format!("the group has {} bytes, asked from {start} on", self.len());
            return Err(misuse(self.ordinal(), operation, found));
        }
        let copied = self.memory.download(start, to);
        copied.map_err(failed(self.ordinal(), operation))
    }
}

/// # Closing gaps
impl CudaBuffer {
    /// A copy of a strided tensor in separate memory, row-major and without gaps, made on the
    /// device; `start` is its first byte in this buffer.
    ///
    /// For a rank's shares, only the copies remain once the loaded group is dropped.
    ///
    /// # Errors
    /// If the tensor is not inside, its elements share bytes, or the device failed or has not
    /// that much memory.
    pub fn contiguous(
        &self,
        start: usize,
        dtype: Dtype,
        layout: &Layout,
    ) -> Result<Self, DeviceError> {
        let operation = "copy a tensor without its gaps";
        if !self.holds_tensor(start, dtype, layout) {
            let found = format!("it leaves the {} bytes of the group", self.len());
            return Err(misuse(self.ordinal(), operation, found));
        }
        let rows = compact::rows(start, dtype, layout);
        let rows = rows.ok_or_else(|| {
            let found = format!("elements of {dtype} share bytes");
            misuse(self.ordinal(), operation, found)
        })?;
        let len = rows.iter().map(|rows| rows.width * rows.height).sum();
        let memory = allocate(self.memory.stream(), len)?;
        let copied = memory.take_rows(&self.memory, rows.into_iter());
        copied.map_err(failed(self.ordinal(), operation))?;
        Ok(Self::new(Arc::new(memory)))
    }

    fn holds_tensor(&self, start: usize, dtype: Dtype, layout: &Layout) -> bool {
        let span = match layout.elements() {
            0 => Some(0),
            _ => layout.span_bytes(dtype),
        };
        let span = span.and_then(|span| usize::try_from(span).ok());
        span.is_some_and(|span| self.memory.holds(start, span))
    }
}

/// # Sharing
impl CudaBuffer {
    /// The elements in a range of bytes as a slice of cudarc on a stream of the caller's, which
    /// must be of the device's primary context.
    ///
    /// # Errors
    /// If the stream is of another context, or the range is empty, not inside, or not aligned.
    ///
    /// # Panics
    /// cudarc panics where the driver refuses it an event.
    pub fn slice<T: DeviceRepr + Pod>(
        &self,
        range: Range<usize>,
        stream: &Arc<CudaStream>,
    ) -> Result<SharedSlice<T>, DeviceError> {
        interop::share(&self.memory, range.clone(), stream)
            .map_err(|error| self.no_slice(error, &range, size_of::<T>()))
    }

    /// The whole buffer as a slice of cudarc that owns the memory, for frameworks that want that.
    ///
    /// # Errors
    /// If it is shared, which gives it back, or as for [`slice`](Self::slice).
    ///
    /// # Panics
    /// As for [`slice`](Self::slice).
    pub fn into_slice<T: DeviceRepr + Pod>(
        self,
        stream: &Arc<CudaStream>,
    ) -> Result<CudaSlice<T>, (Self, DeviceError)> {
        interop::give(self.memory, stream).map_err(|(memory, error)| {
            let buffer = Self { memory };
            let error = match error {
                Some(error) => buffer.no_slice(error, &(0..buffer.len()), size_of::<T>()),
                None => misuse(buffer.ordinal(), "give a group away", "it is shared"),
            };
            (buffer, error)
        })
    }

    /// The tensor of this dtype and layout whose bytes begin at `start`, for DLPack.
    ///
    /// # Errors
    /// As for [`dlpack::Tensor::export`], and if the tensor is not inside the buffer.
    pub fn dlpack<M: dlpack::Managed>(
        &self,
        start: usize,
        dtype: Dtype,
        layout: &Layout,
    ) -> Result<Exported<M>, DlpackError> {
        if !self.holds_tensor(start, dtype, layout) {
            return Err(DlpackError::Outside {
                start,
                len: self.len(),
            });
        }
        let tensor = dlpack::Tensor {
            address: self.address() + start as u64,
            device: DlDevice {
                kind: dlpack::CUDA,
                id: i32::try_from(self.ordinal()).unwrap_or(i32::MAX),
            },
            dtype,
            layout,
            read_only: false,
            owner: Arc::clone(&self.memory) as Arc<dyn Any + Send + Sync>,
        };
        tensor.export()
    }

    fn no_slice(&self, error: NoSlice, range: &Range<usize>, element: usize) -> DeviceError {
        let found = match error {
            NoSlice::Context => "the stream is not of the device's primary context".into(),
            NoSlice::Owner => "the memory belongs to the caller already".into(),
            NoSlice::Range => format!(
                "bytes {range:?} of {} are not whole, aligned elements of {element} bytes",
                self.len()
            ),
        };
        misuse(self.ordinal(), "view a group as a slice", found)
    }
}
