//! CUDA devices, with the feature `cuda`.
//!
//! ```no_run
//! use tensorlift::cuda::{CudaBuffer, CudaDevice};
//!
//! # fn main() -> tensorlift::Result<()> {
//! let checkpoint = tensorlift::Checkpoint::open("fixtures/tiny-model")?;
//! let loaded = checkpoint.loader().place_on(CudaDevice::new(0)?).load()?;
//! for tensor in &loaded {
//!     if let Some(buffer) = CudaBuffer::of(&**tensor.group()) {
//!         println!("{} at {:#x}", tensor.name(), buffer.address() + tensor.offset() as u64);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub use tensorlift_device_cuda::{
    Cached, CudaBuffer, CudaDevice, CudaOptions, CudaReport, DeviceInfo, Gds, Survey, cudarc,
    dlpack, survey,
};
