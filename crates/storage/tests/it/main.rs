//! The conformance suite, over the storages of this crate and over broken ones.

mod conformance;
