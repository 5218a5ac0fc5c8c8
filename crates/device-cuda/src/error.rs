//! Errors of the driver as errors of a device.

use tensorlift_device::DeviceError;

use crate::driver::{CallError, LIBRARY, Lacking, OpenError};

/// The name of a device, for reports.
pub(crate) fn device_name(ordinal: usize) -> String {
    format!("cuda:{ordinal}")
}

pub(crate) fn opening(ordinal: usize, error: OpenError) -> DeviceError {
    let device = device_name(ordinal);
    let reason = match error {
        OpenError::Lacking(Lacking::Library) => {
            let library = LIBRARY.into();
            return DeviceError::DriverMissing { device, library };
        }
        OpenError::Lacking(Lacking::Symbol(symbol)) => {
            format!("the CUDA driver lacks {symbol}, it is too old")
        }
        OpenError::Ordinal { ordinal, devices } => {
            format!("there are {devices} CUDA devices, {ordinal} is not among them")
        }
        OpenError::Call(error) => error.to_string(),
    };
    DeviceError::Unavailable { device, reason }
}

pub(crate) fn failed(
    ordinal: usize,
    operation: impl Into<String>,
) -> impl FnOnce(CallError) -> DeviceError {
    let operation = operation.into();
    move |error| DeviceError::Failed {
        device: device_name(ordinal),
        operation,
        source: error.into(),
    }
}

/// A mistake of the caller.
pub(crate) fn misuse(
    ordinal: usize,
    operation: impl Into<String>,
    found: impl Into<String>,
) -> DeviceError {
    DeviceError::Failed {
        device: device_name(ordinal),
        operation: operation.into(),
        source: found.into().into(),
    }
}
