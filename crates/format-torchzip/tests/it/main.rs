//! Integration tests of the PyTorch reader.

mod agree;
mod containers;
mod hostile;
#[cfg(target_os = "linux")]
mod limits;
mod objects;
mod odd;
mod older;
mod oracle;
mod regressions;
mod write;
mod written;
mod zip_files;
