//! CUDA devices for tensorlift: grouped copies through a pinned ring, GPUDirect Storage.
//!
//! A [`CudaDevice`] is a [`Device`]: the loader asks it for groups, reads into its few pinned
//! buffers, and each buffer is copied on one of several streams while the next ones are read.
//! When a group is finished, its tensors are views of one allocation, a [`CudaBuffer`]: hand it on
//! as a pointer, as slices of cudarc, or through [`dlpack`].
//!
//! ```
//! use tensorlift_device::{Device, DeviceError};
//! use tensorlift_device_cuda::CudaDevice;
//!
//! match CudaDevice::new(0) {
//!     Ok(device) => println!("{}", device.report()),
//!     // No panic where there is no driver.
//!     Err(DeviceError::DriverMissing { library, .. }) => println!("no {library}"),
//!     Err(error) => println!("{error}"),
//! }
//! ```
//!
//! It builds without CUDA and looks for the driver when it runs.
//! Exactly one feature names the CUDA version that is asked of the driver, by default 12.0: to
//! choose another, turn the default features off.
//!
//! It runs no kernels: dtype conversion will narrow a chunk in its pinned buffer, right before
//! [`StagingBuffer::copy`](tensorlift_device::StagingBuffer::copy) begins, and widen it on the
//! same stream after.
//!
//! [`Device`]: tensorlift_device::Device

mod buffer;
mod compact;
mod device;
pub mod dlpack;
mod driver;
mod error;
mod files;
mod group;
mod options;
mod report;
mod ring;
mod staging;

pub use buffer::CudaBuffer;
pub use device::CudaDevice;
pub use driver::CallError;
pub use driver::DeviceInfo;
pub use driver::interop::SharedSlice;
pub use group::CudaGroup;
pub use options::{CudaOptions, Gds};
pub use report::{CudaReport, Survey, survey};

/// The cudarc that this crate was built with: its types stand in the interface.
pub use cudarc;
