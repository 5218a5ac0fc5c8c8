//! Writes state dicts as `torch.save` does, for `torch.load(weights_only=True)`.
//!
//! A [`StateDict`] describes the tensors; [`begin`](StateDict::begin) writes that description, and
//! an [`ArchiveWriter`] then takes the bytes of one storage after another, so that only one need
//! be in memory.
//!
//! ```
//! use std::io::Cursor;
//!
//! use tensorlift_format_torchzip::write::StateDict;
//! use tensorlift_tensor_meta::Dtype;
//!
//! let mut state_dict = StateDict::new();
//! let embedding = state_dict.storage(8);
//! state_dict.tensor("embedding.weight", Dtype::F32, &[2], embedding, false)?;
//! // A tied weight is a second name for the same storage.
//! state_dict.tensor("head.weight", Dtype::F32, &[2], embedding, false)?;
//!
//! let mut archive = state_dict.begin(Cursor::new(Vec::new()))?;
//! archive.write_storage(&[0; 8])?;
//! let file = archive.finish()?.into_inner();
//! assert!(file.starts_with(b"PK"));
//! # Ok::<(), tensorlift_format_torchzip::write::WriteError>(())
//! ```
//!
//! Tensors are row-major and each is the whole of its storage.

mod archive;
mod error;
mod kind;
mod output;
mod pickle;
mod state_dict;

pub use archive::ArchiveWriter;
pub use error::WriteError;
pub use kind::is_writable;
pub use state_dict::{StateDict, StorageId};
