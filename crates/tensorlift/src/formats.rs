//! Recognises the format of a shard by its bytes, and reads its catalog.

use std::path::Path;
use std::sync::Arc;

use tensorlift_format_safetensors as safetensors;
use tensorlift_format_torchzip as torch;
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
    let is_torch = torch::detect(&prefix).is_some();
    if safetensors::is_safetensors(&prefix) {
        let catalog = safetensors::read(storage, options.limits)?;
        return Ok(Parsed {
            catalog: Arc::new(catalog),
            format: "safetensors",
            extras: None,
        });
    }
    if !is_torch {
        let found = foreign::identify(&prefix, storage);
        // If the bytes are unknown, the error of the format that the name promises says more.
        let promised = path.extension().is_some_and(|end| end == "safetensors");
        return Err(match safetensors::read(storage, options.limits) {
            Err(error) if promised && found == foreign::Foreign::Unknown => error.into(),
            _ => found.error(path),
        });
    }
    let mut read = torch::ReadOptions::default();
    read.limits = options.limits.clone();
    read.policy = options.policy;
    let file = torch::read(storage, &read)
        .map_err(|error| foreign::explain(storage, path, error.into()))?;
    let format = match file.format() {
        torch::Format::Zip => "torch zip",
        torch::Format::Legacy => "torch legacy",
        torch::Format::Tar => "torch tar",
        torch::Format::TorchScript => "torchscript",
        torch::Format::Pickle => "pickle",
        _ => "torch",
    };
    let counted = |root: &torch::Root| (root.prefix().to_owned(), root.tensors());
    let roots = file.roots().iter().map(counted).collect();
    let automatic_root = counted(file.automatic_root());
    let other_models = file.other_models().iter().map(counted).collect();
    let mut notes = Vec::new();
    if !file.unclaimed().is_empty() {
        let unclaimed = file.unclaimed().iter().map(ToString::to_string);
        notes.push(Note::Unclaimed {
            file: path.to_owned(),
            bytes: unclaimed.collect(),
        });
    }
    if file.aliases_omitted() {
        let file = path.to_owned();
        notes.push(Note::AliasesOmitted(file));
    }
    let (catalog, state) = file.into_parts();
    Ok(Parsed {
        catalog,
        format,
        extras: Some(Extras {
            state: Some(state),
            roots,
            automatic_root,
            other_models,
            notes,
        }),
    })
}
