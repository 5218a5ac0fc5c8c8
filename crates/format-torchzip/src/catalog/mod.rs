//! From the objects of a pickle to a catalog: names, then entries and records.

pub(crate) mod listing;
pub(crate) mod naming;
pub(crate) mod roots;
