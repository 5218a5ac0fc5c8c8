//! Files that come by other ways than reads into the ring: GPUDirect Storage, pinned mappings.

#[cfg(target_os = "linux")]
#[cfg(target_os = "linux")]
mod per_file;
#[cfg_attr(target_os = "linux", path = "cufile.rs")]
#[cfg_attr(not(target_os = "linux"), path = "none.rs")]
mod platform;

#[cfg(target_os = "linux")]
pub(crate) use platform::Files;
#[cfg(not(target_os = "linux"))]
pub(crate) use platform::Mapped;
