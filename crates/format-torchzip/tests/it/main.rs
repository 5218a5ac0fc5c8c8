//! Integration tests of the PyTorch reader.

mod oracle;
mod write;
mod zip_files;
