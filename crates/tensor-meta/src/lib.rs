//! Plain data about checkpoints, shared by every tensorlift crate: no I/O, no format, no device.
//!
//! A format crate describes a shard as a [`Catalog`]: its entries, in file order, and where each
//! one's bytes lie.
//! The loader plans from that description alone.
//!
//! ```
//! use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};
//!
//! let mut builder = Catalog::builder();
//! let record = builder.record(Record::stored(Extent::new(ShardId::FIRST, 64, 24)))?;
//! builder.entry("weight", Dtype::F32, Layout::contiguous([2, 3])?, View::whole(record))?;
//! let catalog = builder.finish();
//!
//! let weight = catalog.get("weight").unwrap();
//! assert_eq!(weight.shape(), [2, 3]);
//! assert_eq!(weight.extent(), Extent::new(ShardId::FIRST, 64, 24));
//! # Ok::<(), tensorlift_tensor_meta::CatalogError>(())
//! ```
//!
//! # Not supported
//!
//! Tensor arithmetic, and anything that reads files.

mod catalog;
mod dtype;
mod error;
mod extent;
mod layout;
mod limits;
mod name_index;
pub mod names;
mod slice;

pub use catalog::{Catalog, CatalogBuilder, CatalogError, Entry, Record, RecordId, Source, View};
pub use dtype::Dtype;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use extent::{Extent, ShardId};
pub use layout::{ByteOrder, Layout, LayoutError};
pub use limits::Limits;
pub use name_index::NameIndex;
pub use slice::Slice;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
