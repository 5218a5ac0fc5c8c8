//! What the objects of a pickle say about tensors.

pub(crate) mod embedded;
pub(crate) mod numpy;
pub(crate) mod objects;
mod problem;
pub(crate) mod rebuild;
pub(crate) mod text;

pub use problem::TensorProblem;
