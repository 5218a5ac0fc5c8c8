//! What a measured process and the one that starts it agree on: arguments, checksum, outcome.
//!
//! An engine is a program that is called as `PROGRAM ENGINE PATH --prime BYTES`.
//! It primes memory, loads the checkpoint at `PATH` within the clock, sums up what it holds
//! outside of it, and prints one line of JSON: the [`Outcome`], or a [`Failure`].
//!
//! ```
//! use tensorlift_bench_protocol::Checksum;
//!
//! let mut one = Checksum::default();
//! one.tensor("a", b"12");
//! one.tensor("b", b"34");
//! let mut other = Checksum::default();
//! other.tensor("b", b"34");
//! other.tensor("a", b"12");
//! assert_eq!(one, other);
//! ```

mod checksum;
mod failure;
mod measure;
mod outcome;
mod request;

pub use checksum::Checksum;
pub use failure::{Failure, main_of, main_with};
pub use measure::{forget_peak, measure};
pub use outcome::{Outcome, Phase};
pub use request::Request;

/// What goes wrong in a measured process ends it, and its text is all that is kept.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
