use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use tensorlift::{Checkpoint, Result};
use tensorlift_format_safetensors::{FormatDtype, View, to_format, write_file};

use super::contents::{Contents, Item};
use super::feed::{Feed, with_feed};
use super::shards::Shard;

/// Writes one file.
pub(super) fn write(
    checkpoint: &Checkpoint,
    shard: &Shard<'_>,
    contents: &Contents<'_>,
    path: &Path,
) -> Result<()> {
    let mut metadata: HashMap<String, String> = contents.metadata.clone().into_iter().collect();
    for item in &shard.items {
        let kept = item.entry.name();
        let ties = item.ties.iter();
        metadata.extend(ties.map(|tie| (tie.name().to_owned(), kept.to_owned())));
    }
    // The order in which the writer asks for them.
    let mut items = shard.items.clone();
    items.sort_by_key(|item| (Reverse(to_format(item.dtype)), item.entry.name()));
    with_feed(checkpoint, &items, |feed| {
        let feed = RefCell::new(feed);
        let tensors = items.iter().enumerate().filter_map(|(position, item)| {
            let tensor = OnDemand {
                item,
                // The survey lets no other dtype pass.
                dtype: to_format(item.dtype)?,
                position,
                feed: &feed,
            };
            Some((item.entry.name(), tensor))
        });
        let written = write_file(path, tensors, Some(metadata));
        match feed.into_inner().failure() {
            Some(error) => Err(error),
            None => written.map_err(|error| tensorlift::Error::from(error).with_path(path)),
        }
    })
}

/// A tensor that is loaded when it is written.
struct OnDemand<'a, 'f> {
    item: &'a Item<'a>,
    dtype: FormatDtype,
    position: usize,
    feed: &'a RefCell<Feed<'f>>,
}

impl View for OnDemand<'_, '_> {
    fn dtype(&self) -> FormatDtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.item.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.feed
            .borrow_mut()
            .bytes_or_nothing(self.position)
            .into()
    }

    fn data_len(&self) -> usize {
        // The sum of all was found to be in bounds.
        self.item.bytes as usize
    }
}
