//! CUDA devices for tensorlift: grouped copies through pinned slots, GPUDirect Storage.
//!
//! A [`CudaDevice`] is a [`Device`]: the loader asks it for groups, and each of its readers
//! borrows a lane, two pinned slots and a stream: it reads into one slot while the device copies
//! from the other.
//! When a group is finished, its tensors are views of one allocation, a [`CudaBuffer`]: hand it on
//! as a pointer, as slices of cudarc, or through [`dlpack`].
//!
//! ```
//! use tensorlift_device::{Device, DeviceError};
//! use tensorlift_device_cuda::CudaDevice;
//!
//! match CudaDevice::new(0) {
//!     Ok(device) => println!("{}", device.name()),
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
//! It runs no kernels: the loader narrows elements in their pinned slot, right before
//! [`Lane::copy`](tensorlift_device::Lane::copy) begins, and widens them on the host.
//!
//! # Not supported
//!
//! Groups that span several GPUs, copies between GPUs, memory of the driver's pools, and devices of
//! other vendors.
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
mod lanes;
mod options;
mod report;
mod staging;
mod start;

pub use buffer::CudaBuffer;
pub use device::CudaDevice;
pub use driver::CallError;
pub use driver::CallerMemory;
pub use driver::DeviceInfo;
pub use driver::interop::SharedSlice;
pub use group::CudaGroup;
pub use options::{CudaOptions, Gds};
pub use report::{CudaReport, GdsReport, Survey, survey};

/// The cudarc that this crate was built with: its types are part of the interface.
pub use cudarc;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
