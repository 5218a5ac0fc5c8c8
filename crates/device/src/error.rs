use std::io;

use tensorlift_tensor_meta::{BoxError, Error, ErrorKind};
use thiserror::Error as ThisError;

/// Why a device failed.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is not enough memory.
    #[error("{device} has {free} bytes free, the load needs {needed}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The system refused memory without saying how much it has.
    #[error("{device} cannot allocate {needed} bytes")]
    Allocation {
        /// The device.
        device: String,
        /// Bytes needed.
        needed: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The library that drives the device is not installed.
    #[error("{device} cannot be used: {library} is not installed or not on the loader's path")]
    DriverMissing {
        /// The device.
        device: String,
        /// The library that was looked for.
        library: String,
    },
    /// The device cannot be used at all: no such ordinal, a driver too old.
    #[error("{device} cannot be used: {reason}")]
    Unavailable {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// A call to the device failed.
    #[error("{device} failed to {operation}")]
    Failed {
        /// The device.
        device: String,
        /// What failed, as in "copy 8 bytes".
        operation: String,
        /// The device's own error.
        source: BoxError,
    },
    /// A read needs a larger staging slot than the device has.
    #[error("{device} has staging slots of {found} bytes, a read needs {needed}")]
    StagingTooSmall {
        /// The device.
        device: String,
        /// Bytes needed.
        needed: usize,
        /// Bytes of a slot.
        found: usize,
    },
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        let remedy = match &error {
            DeviceError::OutOfMemory { .. } | DeviceError::Allocation { .. } => {
                "select fewer tensors, free memory, or place some tensors on another device"
            }
            DeviceError::DriverMissing { .. } => "load to the host instead, or install the driver",
            DeviceError::Unavailable { .. } => "load to the host instead, or repair the driver",
            DeviceError::Failed { .. } => "check the device's own log, then load again",
            DeviceError::StagingTooSmall { .. } => "lower the chunk size",
        };
        let kind = match &error {
            DeviceError::StagingTooSmall { .. } => ErrorKind::Misuse,
            _ => ErrorKind::Device,
        };
        Error::new(kind, error).with_remedy(remedy)
    }
}
