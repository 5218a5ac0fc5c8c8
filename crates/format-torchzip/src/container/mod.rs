//! How a file holds its pickles and storages, layout by layout.

pub(crate) mod detect;
pub(crate) mod legacy;
mod problem;
pub(crate) mod storages;
pub(crate) mod tar;
pub(crate) mod unclaimed;
pub(crate) mod zip;

pub use problem::LayoutProblem;
