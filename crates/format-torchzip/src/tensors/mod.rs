//! What the objects of a pickle say about tensors.

mod arguments;
pub(crate) mod embedded;
pub(crate) mod numpy;
pub(crate) mod rebuild;
