//! The devices of this machine, and the cost of opening one.

use std::fmt;
use std::time::Duration;

use tensorlift_device::DeviceError;

use crate::driver::{self, DeviceInfo};
use crate::error::opening;
use crate::files;

/// The cost of opening a device, and its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaReport {
    /// The device, as loads name it.
    pub device: String,
    /// The name of the model.
    pub model: String,
    /// Whether the driver takes many copies in one call (`cuMemcpyBatchAsync`).
    pub batched_copies: bool,
    /// The state of GPUDirect Storage so far.
    pub gds: GdsReport,
    /// Starting the driver, beside other work.
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

/// The state of GPUDirect Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GdsReport {
    /// No load has needed it.
    NotAsked,
    /// cuFile is open; it may refuse files one by one.
    Opened {
        /// How long opening it took.
        took: Duration,
    },
    /// cuFile is not used.
    Refused {
        /// Why.
        reason: String,
        /// How long finding out took.
        took: Duration,
    },
}

impl fmt::Display for GdsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GdsReport::NotAsked => f.write_str("GPUDirect Storage was not needed"),
            GdsReport::Opened { took } => {
                write!(f, "GPUDirect Storage is used, opened in {took:.1?}")
            }
            GdsReport::Refused { reason, took } => {
                write!(
                    f,
                    "no GPUDirect Storage: {reason}; checking took {took:.1?}"
                )
            }
        }
    }
}

impl fmt::Display for CudaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            model,
            pinned_bytes,
            ..
        } = self;
        write!(f, "{device} ({model}): started in {:.1?}, ", self.opening)?;
        match self.pinned_by {
            None => write!(f, "no host memory pinned yet")?,
            Some(call) => write!(
                f,
                "{pinned_bytes} bytes in {} lanes pinned by {call} in {:.1?}",
                self.lanes, self.pinning
            )?,
        }
        write!(f, "; {}", self.gds)
    }
}

/// The driver and its devices, found without using any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// The newest CUDA version that the driver supports: 12080 is 12.8.
    pub driver_version: u32,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
    /// How cuFile could reach storage directly, if at all: from files of the system, without asking
    /// cuFile.
    pub direct_storage: Option<&'static str>,
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
            direct_storage: files::direct_storage(),
        })
    });
    found.map_err(|error| opening(0, error))
}
