//! Suites that every implementation of a seam passes, offered to those who bring their own.

mod storage;

pub use storage::storage;
