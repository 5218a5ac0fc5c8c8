//! Reads PyTorch checkpoints into a catalog without running any code.
//!
//! [`read`] takes the zip archives that `torch.save` writes since 1.6, its older formats,
//! TorchScript archives and bare pickles.
//! It returns a [`TorchFile`]: a catalog of all tensors under the paths that lead to them, and
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
//! # How a tensor is found
//!
//! 1. `container/` finds the pickles and the storages of a file: zip archive, legacy layout, tar.
//! 2. `pickle/` runs a pickle into an arena of objects; calls are recorded and never made.
//! 3. `tensors/` reads an object that rebuilds a tensor: a view of a storage, an array, parts.
//! 4. `catalog/` names each tensor by its path, and lists it as an entry over a record.
//! 5. `open/` does this for each format; `state/` holds everything else, `write/` writes files.
//!
//! # Names
//!
//! A tensor is named by the path to it, joined with dots: keys of dicts, attributes of objects,
//! positions in lists, tuples and sets.
//! Keys that are not text are written as Python prints them (`1`, `None`, `(1, a)`, `b'a'`); a lone
//! surrogate is written as its escape.
//!
//! - The tensors of a `torch.nn.Module` have the names of its state dict.
//! - Arguments of a constructor or an unknown function are under `args`, a state that is not a dict
//!   under `state`.
//! - Parts of sparse tensors are `indices`, `crow_indices`, `values` and so on below the
//!   tensor's name; a quantized tensor has `scale` and `zero_point`, or `scales` and
//!   `zero_points`, beside its integers.
//! - Constants of a TorchScript archive are `constants.0`, `constants.1` and so on.
//! - A tensor that is the whole file is called `tensor`.
//! - If two tensors would get the same name, as for the keys `1` and `'1'` or a key with a dot
//!   beside a nested dict, the first in file order keeps it, and `#2`, `#3` and so on are appended
//!   to the others. No tensor is lost.
//! - For equal keys in one dict the last value is used, as in Python.
//!
//! A dict reached along several paths is listed along each, over the same records.
//!
//! # Trust
//!
//! Nothing in a file is called, and recursion is bounded.
//! Every ceiling of [`Limits`](tensorlift_tensor_meta::Limits) holds before memory is spent.
//! An archive is rejected if a name is repeated, leaves its folder or differs from the local
//! header's, if two entries share bytes, or if an entry is encrypted.
//! An archive must match its end record: the directory reaches the end records, and the entries
//! fill the file up to the directory.
//! Bytes that no part of the format claims are listed by [`TorchFile::unclaimed`]; a second
//! archive, an entry
//! that the directory does not list or a second pickle is an error.
//!
//! # Not supported
//!
//! TorchScript's code, TorchScript archives before 1.4 (`model.json`), the
//! `torch.package` and `torch.export` formats, encrypted archives, compression methods other than
//! deflate, pickles that need data from outside of the file.

mod catalog;
mod container;
mod error;
mod open;
mod pickle;
mod state;
mod tensors;
pub mod write;

pub use catalog::roots::Root;
pub use catalog::{Tie, ties};
pub use container::LayoutProblem;
pub use container::detect::detect;
pub use container::names::{archive_names, bytes_before_zip, ends_like_zip};
pub use container::unclaimed::{Unclaimed, UnclaimedPlace};
pub use container::zip::ArchiveProblem;
pub use error::{EntryProblem, Error, Result};
pub use open::{Format, ReadOptions, TorchFile, read};
pub use pickle::{PickleProblem, Policy};
pub use state::{CallPart, ObjectId, Part, State};
pub use tensors::TensorProblem;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
