//! The driver's calls.
//!
//! Names, order of arguments and codes are those of `cuda.h`. Pointers are trusted as the real
//! driver trusts them: each is what the caller's documentation says, or the call is misuse.

use std::ffi::c_int;

use crate::state::{Code, INVALID_DEVICE, INVALID_VALUE, NOT_INITIALIZED, SUCCESS, State};

mod copies;
mod devices;
mod errors;
mod memory;
mod streams;

pub(super) fn done(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(SUCCESS)
}

/// Writes a result through a pointer that the caller gave for it.
pub(super) fn give<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller gave a pointer for a `T` to be written to, and it is not null.
    unsafe { to.write(value) };
    Ok(())
}

pub(super) fn device_index(state: &State, device: c_int) -> Result<usize, Code> {
    if !state.initialised {
        return Err(NOT_INITIALIZED);
    }
    let index = usize::try_from(device).map_err(|_| INVALID_DEVICE)?;
    match index < state.devices.len() {
        true => Ok(index),
        false => Err(INVALID_DEVICE),
    }
}
