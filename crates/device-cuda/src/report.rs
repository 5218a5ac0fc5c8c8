//! What there is, and what opening it cost.

use std::fmt;
use std::time::Duration;

use tensorlift_device::DeviceError;

use crate::driver::{self, DeviceInfo};
use crate::error::opening;

/// What opening a device cost, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaReport {
    /// The device, as loads name it.
    pub device: String,
    /// The name that its maker gave it.
    pub model: String,
    /// Whether the driver takes many copies in one call (`cuMemcpyBatchAsync`).
    pub batched_copies: bool,
    /// Whether files are read by GPUDirect Storage, or why not; files may be refused one by one.
    pub gds: Result<(), String>,
    /// Opening cuFile, which happens when it is first asked for.
    pub gds_opening: Duration,
    /// Starting the driver and making streams.
    pub opening: Duration,
    /// Lanes that loads have made so far: none before the first one.
    pub lanes: usize,
    /// Making them.
    pub pinning: Duration,
    /// Bytes of their slots.
    pub pinned_bytes: u64,
    /// The call that pinned them.
    pub pinned_by: Option<&'static str>,
}

impl fmt::Display for CudaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            model,
            pinned_bytes,
            ..
        } = self;
        write!(f, "{device} ({model}): opened in {:.1?}, ", self.opening)?;
        match self.pinned_by {
            None => write!(f, "no host memory pinned yet")?,
            Some(call) => write!(
                f,
                "{pinned_bytes} bytes in {} lanes pinned by {call} in {:.1?}",
                self.lanes, self.pinning
            )?,
        }
        match &self.gds {
            Ok(()) => write!(
                f,
                ", GPUDirect Storage is tried (opened in {:.1?})",
                self.gds_opening
            ),
            Err(reason) => write!(f, ", no GPUDirect Storage: {reason}"),
        }
    }
}

/// The driver and its devices, found without touching any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// The newest CUDA version that the driver supports: 12080 is 12.8.
    pub driver_version: u32,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
}

/// Looks for the driver and its devices; no context is made.
///
/// # Errors
/// As for [`CudaDevice::new`](crate::CudaDevice::new); a driver without devices is
/// [`DeviceError::Unavailable`].
pub fn survey() -> Result<Survey, DeviceError> {
    let found = driver::devices().and_then(|devices| {
        Ok(Survey {
            driver_version: driver::version()?,
            devices,
        })
    });
    found.map_err(|error| opening(0, error))
}
