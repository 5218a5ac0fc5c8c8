use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use tensorlift::{Checkpoint, Entry, Result};
use tensorlift_format_torchzip::write::{StateDict, StorageId};

use super::contents::Item;
use super::shards::Shard;
use super::writing::Writing;
use super::{on_disk, on_writing};
use crate::batches::{for_each_tensor, row_major};

/// What is gathered before it goes to the file, in bytes; larger pieces go there at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes one file.
pub(super) fn write(
    checkpoint: &Checkpoint,
    shard: &Shard<'_>,
    path: &Path,
    writing: &Writing,
) -> Result<()> {
    let fail = |error: io::Error| on_disk(error, path);
    let state_dict = describe(checkpoint, shard)?;
    let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path).map_err(fail)?);
    let mut archive = state_dict.begin(file).map_err(on_writing(path))?;
    let entries: Vec<&Entry> = shard.items.iter().map(|item| item.entry).collect();
    for_each_tensor(
        checkpoint,
        &entries,
        |loader| writing.loader(loader),
        |_, tensor| {
            archive.begin_storage().map_err(on_writing(path))?;
            row_major(tensor, |piece| {
                archive.write(piece).map_err(on_writing(path))?;
                writing.wrote(piece.len())
            })
        },
    )?;
    let file = archive.finish().map_err(on_writing(path))?;
    file.into_inner()
        .map_err(|error| fail(error.into_error()))?;
    Ok(())
}

/// The state dict: all names in file order, one storage for each tensor.
fn describe(checkpoint: &Checkpoint, shard: &Shard<'_>) -> Result<StateDict> {
    let mut state_dict = StateDict::new();
    let mut names: Vec<(usize, &Entry, &Item<'_>, StorageId)> = Vec::new();
    for item in &shard.items {
        let storage = state_dict.storage(item.bytes);
        for entry in item.names.iter().copied() {
            let position = checkpoint.catalog().position(entry.name());
            names.push((position.unwrap_or_default(), entry, item, storage));
        }
    }
    names.sort_by_key(|&(position, ..)| position);
    for (_, entry, item, storage) in names {
        let grad = entry.requires_grad();
        state_dict.tensor(entry.name(), item.dtype, &item.shape, storage, grad)?;
    }
    Ok(state_dict)
}
