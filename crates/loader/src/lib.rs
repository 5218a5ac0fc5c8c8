//! Plans and executes eager tensor loads: catalog and placement to tensors and a report.
//!
//! Two steps, each usable alone by frameworks that own their memory: [`plan()`] is a pure function
//! from a catalog to segments and places, [`execute()`] reads the segments into groups.
//! [`Loaded`] exposes the groups as tensors.
//!
//! ```
//! use std::sync::Arc;
//! use tensorlift_device::{Device, HostDevice};
//! use tensorlift_loader::{Control, LoadOptions, Loaded, LoadReport, Shard, execute, plan};
//! use tensorlift_storage::MemoryStorage;
//! use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};
//!
//! let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let shard = Shard::new("in memory", Arc::new(MemoryStorage::new(bytes)));
//! let mut builder = Catalog::builder();
//! let record = builder.record(Record::stored(Extent::new(ShardId::FIRST, 0, 8)))?;
//! builder.entry("pair", Dtype::F32, Layout::contiguous([2])?, View::whole(record))?;
//! let catalog = Arc::new(builder.finish());
//!
//! let host: Arc<dyn Device> = Arc::new(HostDevice::new());
//! let options = LoadOptions::default();
//! let plan = plan(&catalog, |_| Some(0), &[host.rules()], &options)?;
//! let filled = execute(&plan, &catalog, &[shard], &[host], &options, &Control::default())?;
//! let loaded = Loaded::new(catalog, plan, filled, LoadReport::default());
//! assert_eq!(loaded.tensor("pair")?.as_slice::<f32>()?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Not supported
//!
//! Lazy loading, asynchronous I/O and tensor arithmetic. Integers, complex numbers and elements
//! smaller than a byte keep their dtype.

mod budget;
mod control;
mod device_map;
mod dtype;
mod each;
mod element;
mod execute;
mod hash;
mod into;
mod loaded;
mod options;
mod pattern;
mod placement;
mod plan;
mod report;
mod shard;
mod tensor;

pub use budget::{Budget, BudgetLimits};
pub use control::{CancelToken, Control, Progress, ProgressFn};
pub use device_map::{
    DeviceKey, DeviceMap, DeviceMapOptions, DeviceMemory, DeviceUse, Division, PlacedUnit,
    parse_size,
};
pub use dtype::{Cast, Casts, DtypePolicy};
pub use each::load_each;
pub use element::Element;
pub use execute::{FillError, Filled, Outcome, execute, fill, hash_ranges, probe};
pub use hash::{Digest, HashAlgorithm, HashRange};
pub use into::{LoadIntoError, LoadedInto, ParameterMemory, load_into};
pub use loaded::Loaded;
pub use options::{LoadOptions, Mode, PageCache, Reader, Verify};
pub use pattern::Pattern;
pub use placement::Placement;
pub use plan::{
    Assembly, GroupMemory, Place, Plan, PlannedGroup, Repeat, Segment, SegmentSource, Selection,
    Transform, plan,
};
pub use report::{
    Alternative, Bytes, Counts, FileReport, Hashed, KeptTensor, LoadReport, PaceStep, Phases,
    RefusedReader, Resolution, Setting, Verified,
};
pub use shard::Shard;
pub use tensor::Tensor;
