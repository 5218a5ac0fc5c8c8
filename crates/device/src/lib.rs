//! Where tensor bytes are loaded to: the traits of devices, host memory, typed vectors and a null
//! device.
//!
//! The loader requests [`Group`]s from a [`Device`], each an allocation that many tensors share,
//! and fills them.
//! A group is filled in one of two ways, its [`Destination`]: by reading straight into its
//! memory, or by copies out of staging slots.
//!
//! ```
//! use tensorlift_device::{Destination, Device, GroupRequest, HostDevice};
//!
//! let mut group = HostDevice::new().allocate(&GroupRequest::new(4))?;
//! if let Destination::Host(bytes) = group.destination() {
//!     bytes.copy_from_slice(b"abcd");
//! }
//! group.finish()?;
//! assert_eq!(group.as_host(), Some(b"abcd".as_slice()));
//! # Ok::<(), tensorlift_device::DeviceError>(())
//! ```
//!
//! # Not supported
//!
//! Kernels, tensor arithmetic, and copies from a device back to the host.

pub mod conformance;
mod device;
pub mod double;
mod error;
mod host;
mod lanes;
#[cfg(feature = "measure")]
pub mod measure;
mod null;
mod pool;
mod vectors;

pub use device::{
    CopyRun, Destination, Device, Group, GroupRequest, GroupRules, Lane, Pull, Pulled, Staging,
    take_group,
};
pub use error::DeviceError;
pub use host::HostDevice;
pub use lanes::LanePool;
pub use null::NullDevice;
pub use pool::HostPool;
pub use vectors::{VecDevice, VecGroup};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
