//! A double of the CUDA driver library on host memory, for tests; it is not CUDA.
//!
//! The shared library of this crate exports the driver calls that tensorlift makes, and those of
//! cuFile. Device memory is host memory behind made-up addresses, each stream is a thread, and
//! copies take effect when that thread comes to them, so code that forgets to wait moves wrong
//! bytes. It runs no kernels and says nothing about speed;
//! its log of calls, priced by a table that was measured on a GPU, tells what a load costs beside
//! the bytes ([`costs`]).
//!
//! What it is strict about:
//! - copies are checked against live allocations twice, when they are enqueued and when they run;
//! - memory of `cuMemAllocAsync` must not be touched by another stream before its own one came to
//!   the allocation, and freeing memory waits for nothing;
//! - pinned host memory must still be pinned when a copy out of it runs;
//! - memory is released only with a context that is current;
//! - a call that releases something does so even where it is told to fail, as the driver's does
//!   when it merely reports an earlier failure.
//!
//! The [`harness`] puts it in the way of a child process:
//!
//! ```no_run
//! use tensorlift_fake_cuda::harness::Fake;
//!
//! // In a test: runs the closure in a child process of the test binary, where the dynamic loader
//! // finds the double under the driver's name, and checks that nothing is left at its end.
//! Fake::new("module::name_of_this_test").set("memory", 1 << 30).run(|control| {
//!     assert_eq!(control.counts().allocations, 0);
//! });
//! ```

// A library of the C interface is nothing but raw pointers: it trusts its caller as the real one
// does. No crate that users depend on depends on it.
#![allow(unsafe_code)]
// The dynamic loader, its search path and its file names are those of Linux.
#![cfg(target_os = "linux")]

mod control;
pub mod costs;
mod cufile;
mod driver;
mod event;
mod gate;
pub mod harness;
mod memory;
mod settings;
mod state;
mod stream;

pub use control::Counts;
