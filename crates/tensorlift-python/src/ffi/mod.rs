//! All unsafe code of this crate: memory that Python objects look at, and its hand-over.
#![allow(unsafe_code)]

mod buffer;
mod dlpack;
mod host;
mod parameters;

pub(crate) use buffer::Memory;
pub(crate) use dlpack::Importer;
pub(crate) use host::{HostBlock, PythonHost};
pub(crate) use parameters::Parameters;
