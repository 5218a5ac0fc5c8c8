//! Reading descriptions of tensors from the objects of a pickle.

pub(crate) mod embedded;
mod functions;
pub(crate) mod numpy;
pub(crate) mod objects;
mod problem;
pub(crate) mod rebuild;
pub(crate) mod text;

pub use problem::TensorProblem;
