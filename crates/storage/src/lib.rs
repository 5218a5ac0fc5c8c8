//! Where checkpoint bytes come from: positional reads from files, mappings and memory.
//!
//! The seam is [`Storage`]: a length and a read at an offset through a shared reference, so that
//! many threads can read one storage at once.
//! Implement it for anything else that holds checkpoints; the feature `conformance` has a suite that
//! every implementation passes.
//!
//! ```
//! use tensorlift_storage::{MemoryStorage, StorageExt};
//!
//! let storage = MemoryStorage::new(b"hello".as_slice());
//! let mut bytes = [0; 3];
//! storage.read_exact_at(1, &mut bytes)?;
//! assert_eq!(&bytes, b"ell");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Not supported
//!
//! Writing, networks and asynchronous I/O; implement [`Storage`] for other sources of bytes.

mod anonymous;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cursor;
mod direct;
mod file;
mod inflate;
mod map;
#[cfg(feature = "measure")]
pub mod measure;
mod memory;
pub mod os;
mod reader_kind;
mod storage;
pub mod wrap;

pub use anonymous::Anonymous;
pub use cursor::Cursor;
pub use direct::DirectStorage;
pub use file::FileStorage;
pub use inflate::inflate;
pub use map::MapStorage;
pub use memory::MemoryStorage;
pub use reader_kind::ReaderKind;
pub use storage::{LocalFile, Storage, StorageExt};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
