//! The double as any program would call it: by symbol, out of the shared library.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod strictness;
