//! Reads PyTorch checkpoints into a catalog without running any code.
//!
//! [`read`] takes the zip archives that `torch.save` writes since 1.6, its older formats,
//! TorchScript archives and bare pickles.
//! It gives a [`TorchFile`]: a catalog of all tensors under the paths that lead to them, and
//! everything else as plain values.
//! The pickle inside is run by a machine that knows every opcode and calls nothing.
//!
//! ```
//! use tensorlift_format_torchzip::{Format, ReadOptions, read};
//! use tensorlift_storage::MemoryStorage;
//!
//! // A bare pickle of {"epoch": 3}, as Python writes it.
//! let storage = MemoryStorage::new(b"\x80\x02}q\x00X\x05\x00\x00\x00epochq\x01K\x03s.");
//! let file = read(&storage, &ReadOptions::default())?;
//! assert_eq!(file.format(), Format::Pickle);
//! assert!(file.catalog().is_empty());
//!
//! let state = file.state()?;
//! assert_eq!(state.to_string(), r#"{"epoch": 3}"#);
//! # Ok::<(), tensorlift_format_torchzip::Error>(())
//! ```
//!
//! Not read: TorchScript's code, the `torch.package` format, encrypted archives, compression
//! methods other than deflate, objects of the operating system or the network.

mod archive;
mod detect;
mod embedded;
mod error;
mod globals;
mod legacy;
mod listing;
mod naming;
mod numpy;
mod open;
mod pickle;
mod rebuild;
mod roots;
mod state;
mod storages;
mod tar;
pub mod write;

pub use detect::{Content, detect, identify};
pub use error::{EntryProblem, Error, Result, TensorProblem};
pub use open::{Format, ReadOptions, TorchFile, read};
pub use pickle::{PickleProblem, Policy};
pub use roots::Root;
pub use state::State;
