//! Loads model checkpoints eagerly, fast and safely: safetensors and PyTorch files into memory.
//!
//! ```
//! use tensorlift::{Checkpoint, HostDevice};
//!
//! # fn main() -> tensorlift::Result<()> {
//! let checkpoint = Checkpoint::open("fixtures/tiny-model")?; // file, folder, index or hub name
//! let loaded = checkpoint
//!     .loader()
//!     .select(|entry| entry.name().ends_with("weight"))
//!     .place_on(HostDevice::new()) // the default
//!     .load()?;
//!
//! for tensor in &loaded {
//!     println!("{} {} {:?}", tensor.name(), tensor.dtype(), tensor.shape());
//! }
//! println!("{}", loaded.report());
//! # Ok(())
//! # }
//! ```
//!
//! When [`Loader::load`] returns, every byte is in place: nothing is read later, and nothing was
//! read twice to warm up.
//!
//! In the order in which you meet them:
//!
//! - [`Checkpoint`]: an open checkpoint: its files and its [`Catalog`], without tensor bytes.
//! - [`Loader`]: what to load, where to, and how.
//! - [`Loaded`]: the [`Tensor`]s in file order, by name or by value, and the [`LoadReport`].
//! - [`Error`]: what went wrong, where, and what to do about it.
//!
//! This crate only ties the others together.
//! Use `tensorlift-loader` to plan and execute loads into your own memory, or a format crate alone
//! for names and extents.
//!
//! # Not supported
//!
//! Running pickled code, tensor arithmetic, networking, async I/O and lazy loading.
//! Formats other than safetensors and PyTorch files are recognised only to name them in errors.

mod aliases;
pub mod bundle;
mod checkpoint;
#[cfg(feature = "cuda-unversioned")]
pub mod cuda;
#[cfg_attr(
    not(feature = "torch"),
    expect(dead_code, reason = "for PyTorch files")
)]
mod foreign;
#[cfg_attr(
    not(feature = "torch"),
    expect(dead_code, reason = "for PyTorch files")
)]
mod formats;
mod free_memory;
mod loader;
#[cfg(feature = "metrics")]
pub mod metrics;
mod notes;
mod observe;
mod open;
mod parallel;
pub mod settings;
pub mod skeleton;
pub mod trust;

pub use checkpoint::Checkpoint;
pub use free_memory::free_memory;
pub use loader::Loader;
pub use notes::Note;
pub use open::OpenOptions;

pub use serde_pickle::Value;

/// The key type of [`Value`].
pub mod state {
    pub use serde_pickle::HashableValue;
}

/// The non-tensor contents of a PyTorch file, object by object.
#[cfg(feature = "torch")]
pub mod torch {
    pub use tensorlift_format_torchzip::{CallPart, ObjectId, Part, State};
}

/// Everything needed to implement a [`Device`].
pub use tensorlift_device as device;
pub use tensorlift_device::{
    Device, DeviceError, HostDevice, HostPool, NullDevice, VecDevice, VecGroup, take_group,
};
#[cfg(feature = "torch")]
pub use tensorlift_format_torchzip::Policy;
pub use tensorlift_loader::{
    Alternative, Budget, BudgetLimits, Bytes, CancelToken, Cast, Control, DeviceKey, DeviceMap,
    DeviceMapOptions, DeviceMemory, DeviceUse, Digest, Division, DtypePolicy, Element, FileReport,
    HashAlgorithm, HashRange, Hashed, KeptTensor, LoadIntoError, LoadOptions, LoadReport, Loaded,
    LoadedInto, Mode, PaceStep, PageCache, ParameterMemory, Pattern, Phases, Place, PlacedUnit,
    Placement, Plan, Progress, Reader, RefusedReader, Resolution, Shard, Tensor, Verified, Verify,
    parse_size,
};
pub use tensorlift_shard_index::{
    Choice, Companions, Form, IndexUse, PassedOver, Reason, Route, WeightFormat,
};
/// Everything needed to implement a [`Storage`].
pub use tensorlift_storage as storage;
pub use tensorlift_storage::{
    DirectStorage, FileStorage, MapStorage, MemoryStorage, ReaderKind, Storage, StorageExt, os,
};
pub use tensorlift_tensor_meta::{
    ByteOrder, Catalog, Dtype, Entry, Error, ErrorKind, Extent, Layout, Limits, Record, Result,
    ShardId, Slice, View,
};

use std::path::Path;

/// Loads every tensor of a checkpoint into host memory.
///
/// `target` is a file, a folder, an index file or the name of a model in the Hugging Face cache.
///
/// ```
/// # fn main() -> tensorlift::Result<()> {
/// let loaded = tensorlift::load("fixtures/tiny-model")?;
/// assert!(loaded.report().bytes_wanted > 0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Checkpoint::open`] and [`Loader::load`].
pub fn load(target: impl AsRef<Path>) -> Result<Loaded> {
    Checkpoint::open(target)?.loader().load()
}

/// What may cross threads, and what is cheap to clone; checked when this crate is built.
const _: fn() = || {
    const fn is_send<T: Send>() {}
    const fn is_shared<T: Clone + Send + Sync>() {}
    is_send::<Loader<'_>>();
    is_shared::<Checkpoint>();
    is_shared::<OpenOptions>();
};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
