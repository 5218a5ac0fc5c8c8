//! Results of driver calls.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;
use thiserror::Error;

/// A call to the CUDA driver that failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{call} returned {code} ({name}: {text})")]
pub struct CallError {
    call: &'static str,
    code: u32,
    name: String,
    text: String,
}

impl CallError {
    pub(super) fn new(call: &'static str, error: DriverError) -> Self {
        let known = |text: Result<&std::ffi::CStr, _>| match text {
            Ok(text) => text.to_string_lossy().into_owned(),
            Err(DriverError(_)) => "no text".into(),
        };
        Self {
            call,
            code: error.0 as u32,
            name: known(error.error_name()),
            text: known(error.error_string()),
        }
    }

    /// The call, by its name in the driver.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The driver's code, a `CUresult`.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32
    }
}

/// Names the call that a result is of.
pub(super) fn check<T>(call: &'static str, result: Result<T, DriverError>) -> Result<T, CallError> {
    result.map_err(|error| CallError::new(call, error))
}

/// Logs a failed release, on which nothing depends.
pub(super) fn note(result: Result<(), CallError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a release failed");
    }
}
