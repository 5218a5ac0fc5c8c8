//! What is listed, and from where.

use tensorlift_tensor_meta::ByteOrder;

use crate::container::storages::Storages;
use crate::pickle::Id;
use crate::tensors::objects::Objects;

/// A pickle whose tensors are to be listed, under a prefix.
pub(crate) struct Tree<'a> {
    pub(crate) objects: Objects<'a>,
    pub(crate) root: Id,
    pub(crate) prefix: &'static str,
    pub(crate) storages: &'a Storages<'a>,
    pub(crate) byte_order: ByteOrder,
    /// Where the pickle's bytes lie in the file as they are.
    pub(crate) pickle_at: Option<u64>,
}
