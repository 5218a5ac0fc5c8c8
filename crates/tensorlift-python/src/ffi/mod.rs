//! All unsafe code of this crate: memory that Python objects look at, and its hand-over.
#![allow(unsafe_code)]

mod dlpack;
mod host;
mod numpy;
mod parameters;

pub(crate) use dlpack::Importer;
pub(crate) use host::{HostBlock, PythonHost};
pub(crate) use numpy::{ArrayApi, Form};
pub(crate) use parameters::Parameters;
