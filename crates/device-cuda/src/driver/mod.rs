//! All unsafe code, in three layers.
//!
//! - *Raw*: `cudarc::driver::{sys, result}`, and the few symbols looked up by hand that cudarc has
//!   not at the lowest CUDA version ([`library`], [`cufile`]).
//! - *Checked*: each call returns a [`CallError`] that names it.
//! - *Safe*: owners whose drop releases what they hold ([`Context`], [`Stream`], [`Event`],
//!   [`Allocation`], [`PinnedMemory`]), and [`StreamLane`], which owns the one end of its copies and
//!   shares the other. No owner frees memory while a copy may access it, so the rest of the crate
//!   needs no unsafe code.
//!
//! The safe copies of cudarc are not used: each waits for every earlier copy into the same
//! allocation, on whatever stream, so several streams would run one after another.

// The one place of this crate where it is permitted; every site states its obligation.
#![allow(unsafe_code)]

mod call;
mod caller;
mod context;
#[cfg(target_os = "linux")]
pub(crate) mod cufile;
pub(crate) mod dlpack;
pub(crate) mod interop;
mod lane;
mod library;
mod memory;
mod pinned;
mod rows;
mod stream;

pub use call::CallError;
pub use caller::CallerMemory;
pub use context::DeviceInfo;
pub(crate) use context::{Bound, Context, OpenError, devices, version};
pub(crate) use lane::StreamLane;
pub(crate) use library::{LIBRARY, Lacking, find_driver};
pub(crate) use memory::Allocation;
pub(crate) use pinned::{HostMemory, PinnedMemory, Slot};
pub(crate) use rows::Rows;
pub(crate) use stream::Stream;
