use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tensorlift::{Checkpoint, Entry, Error, ErrorKind, Result};
use tensorlift_format_safetensors::{FormatDtype, View, to_format, write_file};

use super::contents::{Contents, Item};
use super::shards::Shard;
use super::writing::Writing;
use super::{on_disk, on_writing};
use crate::batches::{for_each_tensor, row_major};

/// Writes one file: the header by the format's own crate, which also makes the file as long as it
/// will be, and then the tensors into it.
pub(super) fn write(
    checkpoint: &Checkpoint,
    shard: &Shard<'_>,
    contents: &Contents<'_>,
    path: &Path,
    writing: &Writing,
) -> Result<()> {
    let mut metadata: HashMap<String, String> = contents.metadata.clone().into_iter().collect();
    for item in &shard.items {
        metadata.extend(
            item.tied()
                .map(|(tie, kept)| (tie.to_owned(), kept.to_owned())),
        );
    }
    // The order in which the header lists them.
    let mut items = shard.items.clone();
    items.sort_by_key(|item| (Reverse(to_format(item.dtype)), item.name()));
    let tensors = items.iter().filter_map(|item| {
        // The survey lets no other dtype pass.
        let dtype = to_format(item.dtype)?;
        Some((item.name(), Described { item, dtype }))
    });
    write_file(path, tensors, Some(metadata)).map_err(on_writing(path))?;

    let fail = |error: io::Error| on_disk(error, path);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(fail)?;
    let expected = file.metadata().map_err(fail)?.len();
    let mut header = [0; 8];
    file.read_exact(&mut header).map_err(fail)?;
    let data = u64::from_le_bytes(header).saturating_add(8);
    file.seek(SeekFrom::Start(data)).map_err(fail)?;
    let entries: Vec<&Entry> = items.iter().map(|item| item.entry).collect();
    for_each_tensor(
        checkpoint,
        &entries,
        |loader| writing.loader(loader),
        |_, tensor| {
            row_major(tensor, |piece| {
                file.write_all(piece).map_err(fail)?;
                writing.wrote(piece.len())
            })
        },
    )?;
    let written = file.stream_position().map_err(fail)?;
    if written != expected {
        let found = format!("expected a file of {expected} bytes, wrote {written}");
        return Err(Error::new(ErrorKind::Misuse, found).with_path(path));
    }
    file.flush().map_err(fail)
}

/// A tensor of which the header is written, and nothing else.
struct Described<'a> {
    item: &'a Item<'a>,
    dtype: FormatDtype,
}

impl View for Described<'_> {
    fn dtype(&self) -> FormatDtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.item.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }

    fn data_len(&self) -> usize {
        // The sum of all was found to be in bounds.
        self.item.bytes as usize
    }
}
