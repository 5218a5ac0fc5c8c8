//! Recognises the format of a shard by its bytes, and reads its catalog.

#[cfg_attr(not(feature = "torch"), path = "torch_left_out.rs")]
pub(crate) mod torch;

use std::path::Path;
use std::sync::Arc;

use tensorlift_format_safetensors as safetensors;
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Catalog, Error, Limits};

use crate::foreign;
use crate::notes::Note;

/// What a shard lists.
pub(crate) struct Parsed {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) format: &'static str,
    /// The non-tensor contents of a PyTorch file.
    pub(crate) extras: Option<Extras>,
}

/// The non-tensor contents of a PyTorch file.
#[derive(Debug)]
pub(crate) struct Extras {
    /// The state; shards of a checkpoint are not asked for theirs.
    pub(crate) state: Option<torch::State>,
    /// Paths that hold tensors, with their number.
    pub(crate) roots: Vec<(String, usize)>,
    /// The path below which the names are likely the model's own, with the number of its tensors.
    pub(crate) automatic_root: (String, usize),
    /// Paths beside that one which could be a model's too, each with its number of tensors.
    pub(crate) other_models: Vec<(String, usize)>,
    /// Bytes and names of the file that are left out.
    pub(crate) notes: Vec<Note>,
}

/// How a shard is opened.
pub(crate) struct ParseOptions<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) policy: torch::Policy,
}

/// What the first bytes of a file may begin of PyTorch's formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A zip or tar archive, of a checkpoint or of other files.
    Archive,
    /// A legacy file: several pickles, then storages.
    Legacy,
    /// One pickle.
    Pickle,
}

/// An archive, by the names of its entries.
pub(crate) enum Archive {
    Tar(Vec<String>),
    Zip(Vec<String>),
}

/// Reads the description of a shard; errors name it `path`.
pub(crate) fn parse(
    storage: &dyn Storage,
    path: &Path,
    options: &ParseOptions<'_>,
) -> Result<Parsed, Error> {
    parse_unnamed(storage, path, options).map_err(|error| error.with_path(path))
}

fn parse_unnamed(
    storage: &dyn Storage,
    path: &Path,
    options: &ParseOptions<'_>,
) -> Result<Parsed, Error> {
    let prefix = foreign::prefix(storage)?;
    if safetensors::is_safetensors(&prefix) {
        let catalog = safetensors::read(storage, options.limits)?;
        return Ok(Parsed {
            catalog: Arc::new(catalog),
            format: "safetensors",
            extras: None,
        });
    }
    if torch::detect(&prefix).is_some() {
        return torch::parse(storage, path, options);
    }
    let found = foreign::identify(&prefix, storage);
    // If the bytes are unknown, the error of the format that the name promises says more.
    let promised = path.extension().is_some_and(|end| end == "safetensors");
    Err(match safetensors::read(storage, options.limits) {
        Err(error) if promised && found == foreign::Foreign::Unknown => error.into(),
        _ => found.error(path),
    })
}
