//! Which format a shard has, told by its bytes, and what it lists.

use std::path::Path;
use std::sync::Arc;

use tensorlift_format_safetensors as safetensors;
use tensorlift_format_torchzip as torch;
use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Limits};

/// Enough to tell every format.
const PREFIX_BYTES: usize = 1024;

/// What a shard lists.
pub(crate) struct Parsed {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) format: &'static str,
    /// What a PyTorch file holds beside tensors.
    pub(crate) extras: Option<Extras>,
}

/// What a PyTorch file holds beside tensors.
#[derive(Debug)]
pub(crate) struct Extras {
    /// Of a file that is a checkpoint of its own; of shards, nobody can ask.
    pub(crate) state: Option<torch::State>,
    /// Paths that hold tensors, with their number.
    pub(crate) roots: Vec<(String, usize)>,
    /// The path below which the names are likely the model's own.
    pub(crate) automatic_root: String,
}

/// How a shard is opened.
pub(crate) struct ParseOptions<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) policy: torch::Policy,
}

/// Reads the description of a shard that people call `path`.
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
    let mut prefix = [0; PREFIX_BYTES];
    let len = storage.len().min(PREFIX_BYTES as u64) as usize;
    storage
        .read_exact_at(0, &mut prefix[..len])
        .map_err(|error| Error::new(ErrorKind::Storage, error))?;
    let prefix = &prefix[..len];
    // Of a file that looks like neither, its name says whose complaint helps most.
    let named_safetensors = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    let is_foreign = !matches!(
        torch::identify(prefix),
        torch::Content::Unknown | torch::Content::Zeros | torch::Content::Safetensors
    );
    if safetensors::is_safetensors(prefix) || (named_safetensors && !is_foreign) {
        let catalog = safetensors::read(storage, options.limits)?;
        return Ok(Parsed {
            catalog: Arc::new(catalog),
            format: "safetensors",
            extras: None,
        });
    }
    let mut read = torch::ReadOptions::default();
    read.limits = options.limits.clone();
    read.policy = options.policy;
    let file = torch::read(storage, &read)?;
    let format = match file.format() {
        torch::Format::Zip => "torch zip",
        torch::Format::Legacy => "torch legacy",
        torch::Format::Tar => "torch tar",
        torch::Format::TorchScript => "torchscript",
        torch::Format::Pickle => "pickle",
        _ => "torch",
    };
    let roots = file
        .roots()
        .iter()
        .map(|root| (root.prefix().to_owned(), root.tensors()));
    let roots = roots.collect();
    let automatic_root = file.automatic_root().prefix().to_owned();
    let (catalog, state) = file.into_parts();
    Ok(Parsed {
        catalog,
        format,
        extras: Some(Extras {
            state: Some(state),
            roots,
            automatic_root,
        }),
    })
}
