//! Files that the device reads itself: GPUDirect Storage.

#[cfg_attr(target_os = "linux", path = "cufile.rs")]
#[cfg_attr(not(target_os = "linux"), path = "none.rs")]
mod platform;

pub(crate) use platform::Files;
