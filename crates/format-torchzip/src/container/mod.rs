//! The layouts in which files hold pickles and storages.

pub(crate) mod detect;
pub(crate) mod legacy;
pub(crate) mod names;
mod problem;
pub(crate) mod storages;
pub(crate) mod tar;
pub(crate) mod unclaimed;
pub(crate) mod zip;

pub use problem::LayoutProblem;
