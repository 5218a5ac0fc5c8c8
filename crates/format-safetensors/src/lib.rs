//! Reads a safetensors header into a [`Catalog`](tensorlift_tensor_meta::Catalog), strictly; writes safetensors files.
//!
//! A safetensors file is the length of a JSON header (8 bytes, little endian), the header, and the
//! tensors' bytes (<https://github.com/huggingface/safetensors#format>).
//! Reading touches only the header and yields names, dtypes, shapes and the extents of the bytes.
//!
//! ```
//! use tensorlift_format_safetensors as safetensors;
//! use tensorlift_storage::MemoryStorage;
//! use tensorlift_tensor_meta::{Dtype, Limits};
//!
//! let bytes = 1.5f32.to_le_bytes();
//! let tensor = safetensors::TensorView::new(safetensors::FormatDtype::F32, vec![1], &bytes)?;
//! let file = safetensors::to_bytes([("scale", tensor)], None)?;
//!
//! let catalog = safetensors::read(&MemoryStorage::new(file), &Limits::default())?;
//! assert_eq!(catalog.get("scale").unwrap().dtype(), Dtype::F32);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Not supported
//!
//! Reading tensor bytes, which `tensorlift-loader` does, and index files of several shards, which
//! `tensorlift-shard-index` reads.

mod dtype;
mod entries;
mod error;
mod header;
mod tokens;
mod write;

pub use dtype::{from_format, to_format};
pub use error::Error;
pub use header::{is_safetensors, read};
pub use safetensors::Dtype as FormatDtype;
pub use safetensors::tensor::{TensorView, View};
pub use write::{to_bytes, write_file};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
