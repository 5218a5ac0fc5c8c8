//! Measures loads: cases and engines are data, every run is a fresh process, every run's bytes are
//! checked.
//!
//! `cargo xtask bench` and the program that is carried to machines with a GPU both drive it; what
//! differs is which processes have the engines, and that is [`Bench::launch`].
//!
//! ```
//! use tensorlift_bench_harness::{Definition, Size};
//!
//! let definition = Definition::parse(
//!     r#"
//!     [[case]]
//!     name = "tiny"
//!     recipe = { kind = "tiny", tensors = 20000 }
//!     formats = ["safetensors", "torch"]
//!     cache = ["cold", "warm"]
//!     rounds = 7
//!     "#,
//! )?;
//! let names: Vec<String> = definition.cases(Size::Full).iter().map(|case| case.name()).collect();
//! assert_eq!(names[0], "tiny/safetensors/1-file/cold");
//! assert_eq!(names.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bench;
mod cache;
mod child;
mod data;
mod definition;
mod engine;
mod machine;
mod plot;
mod recipe;
mod results;
mod round;
mod stats;
mod table;
pub mod watched;

pub use bench::Bench;
pub use data::Store;
pub use definition::{Cache, Case, Definition, FileFormat, Size};
pub use engine::{Engine, Program};
pub use machine::describe as describe_machine;
pub use results::Results;

/// What goes wrong ends a bench, and its text is shown.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
