//! The names of codes.

use std::ffi::c_char;

use super::{done, give};
use crate::state::{Code, SUCCESS};

/// The name of a code, ended by a zero, for those that the double returns and tests plan.
fn error_name(code: Code) -> &'static [u8] {
    match code {
        SUCCESS => b"CUDA_SUCCESS\0",
        1 => b"CUDA_ERROR_INVALID_VALUE\0",
        2 => b"CUDA_ERROR_OUT_OF_MEMORY\0",
        3 => b"CUDA_ERROR_NOT_INITIALIZED\0",
        100 => b"CUDA_ERROR_NO_DEVICE\0",
        101 => b"CUDA_ERROR_INVALID_DEVICE\0",
        201 => b"CUDA_ERROR_INVALID_CONTEXT\0",
        214 => b"CUDA_ERROR_ECC_UNCORRECTABLE\0",
        400 => b"CUDA_ERROR_INVALID_HANDLE\0",
        600 => b"CUDA_ERROR_NOT_READY\0",
        700 => b"CUDA_ERROR_ILLEGAL_ADDRESS\0",
        712 => b"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED\0",
        713 => b"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED\0",
        719 => b"CUDA_ERROR_LAUNCH_FAILED\0",
        801 => b"CUDA_ERROR_NOT_SUPPORTED\0",
        _ => b"CUDA_ERROR_UNKNOWN\0",
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: Code, name: *mut *const c_char) -> Code {
    done(give(name, error_name(code).as_ptr().cast()))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    done(give(text, error_name(code).as_ptr().cast()))
}
