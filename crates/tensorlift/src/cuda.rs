//! CUDA devices, with the feature `cuda`.
//!
//! ```no_run
//! use tensorlift::cuda::{CudaBuffer, CudaDevice};
//!
//! # fn main() -> tensorlift::Result<()> {
//! // Named first: the driver starts while the checkpoint is opened.
//! let device = CudaDevice::new(0)?;
//! let checkpoint = tensorlift::Checkpoint::open("fixtures/tiny-model")?;
//! let loaded = checkpoint.loader().place_on(device).load()?;
//! for tensor in &loaded {
//!     if let Some(buffer) = CudaBuffer::of(&**tensor.group()) {
//!         println!("{} at {:#x}", tensor.name(), buffer.address() + tensor.offset() as u64);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use tensorlift_loader::Tensor;
use tensorlift_tensor_meta::{Error, ErrorKind, Layout, Result};

pub use tensorlift_device_cuda::{
    CudaBuffer, CudaDevice, CudaOptions, CudaReport, DeviceInfo, Gds, GdsReport, Survey, cudarc,
    dlpack, survey,
};

/// A copy of a tensor on a GPU, made on the GPU: separate memory, row-major, without gaps.
///
/// A rank's share along any dimension but the first is loaded with the rows around it; once all
/// shares are copied and the load is dropped, only the copies take memory.
///
/// # Errors
/// If the tensor is not on a GPU, or the copy failed.
pub fn contiguous(tensor: &Tensor) -> Result<CudaBuffer> {
    let buffer = CudaBuffer::of(&**tensor.group()).ok_or_else(|| {
        Error::new(ErrorKind::Misuse, "the tensor is not on a CUDA device")
            .with_tensor(tensor.name())
            .with_remedy("`Tensor::to_contiguous` copies in host memory")
    })?;
    let row_major = Layout::contiguous(tensor.shape());
    let layout = match tensor.is_contiguous() {
        true => &row_major.map_err(|error| Error::new(ErrorKind::Unsupported, error))?,
        // Views keep the strides of their entry.
        false => tensor.entry().layout(),
    };
    Ok(buffer.contiguous(tensor.offset(), tensor.dtype(), layout)?)
}
