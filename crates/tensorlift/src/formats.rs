//! Which format a shard has, told by its bytes, and what it lists.

use std::path::Path;

use serde_pickle::Value;
use tensorlift_format_safetensors as safetensors;
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Catalog, Error, Limits};

/// What a shard lists.
pub(crate) struct Parsed {
    pub(crate) catalog: Catalog,
    pub(crate) format: &'static str,
    /// What a PyTorch file holds beside tensors.
    pub(crate) state: Option<Value>,
}

/// Reads the description of a shard that people call `path`.
pub(crate) fn parse(storage: &dyn Storage, path: &Path, limits: &Limits) -> Result<Parsed, Error> {
    parse_unnamed(storage, limits).map_err(|error| error.with_path(path))
}

fn parse_unnamed(storage: &dyn Storage, limits: &Limits) -> Result<Parsed, Error> {
    let catalog = safetensors::read(storage, limits)?;
    Ok(Parsed {
        catalog,
        format: "safetensors",
        state: None,
    })
}
