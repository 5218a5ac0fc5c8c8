//! PyTorch files; `torch_left_out` stands in its place in builds without the feature `torch`.

use std::path::Path;

use tensorlift_format_torchzip::{self as torchzip, Format, ReadOptions, Root};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::Error;

use super::{Archive, Beginning, Extras, ParseOptions, Parsed};
use crate::foreign;
use crate::notes::Note;

pub(crate) use torchzip::{Policy, State, bytes_before_zip, ends_like_zip};

pub(crate) fn detect(prefix: &[u8]) -> Option<Beginning> {
    Some(match torchzip::detect(prefix)? {
        Format::Zip | Format::Tar => Beginning::Archive,
        Format::Legacy => Beginning::Legacy,
        _ => Beginning::Pickle,
    })
}

pub(crate) fn archive(storage: &dyn Storage) -> Option<Archive> {
    let (format, names) = torchzip::archive_names(storage)?;
    Some(match format {
        Format::Tar => Archive::Tar(names),
        _ => Archive::Zip(names),
    })
}

pub(crate) fn parse(
    storage: &dyn Storage,
    path: &Path,
    options: &ParseOptions<'_>,
) -> Result<Parsed, Error> {
    let mut read = ReadOptions::default();
    read.limits = options.limits.clone();
    read.policy = options.policy;
    let file = torchzip::read(storage, &read)
        .map_err(|error| foreign::explain(storage, path, error.into()))?;
    let format = match file.format() {
        Format::Zip => "torch zip",
        Format::Legacy => "torch legacy",
        Format::Tar => "torch tar",
        Format::TorchScript => "torchscript",
        Format::Pickle => "pickle",
        _ => "torch",
    };
    let counted = |root: &Root| (root.prefix().to_owned(), root.tensors());
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
