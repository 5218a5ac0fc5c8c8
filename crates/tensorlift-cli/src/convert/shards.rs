use std::collections::BTreeMap;

use serde_json::json;

use super::contents::{Contents, Item};
use super::output::Format;

/// A file to be written.
pub(super) struct Shard<'a> {
    pub(super) name: String,
    pub(super) items: Vec<&'a Item<'a>>,
}

/// Fills files in file order, as `transformers` does: a file is full where the next tensor would
/// make it larger than `most_bytes`; a tensor that is larger itself gets one of its own.
pub(super) fn split<'a>(
    contents: &'a Contents<'a>,
    most_bytes: Option<u64>,
    format: Format,
) -> Vec<Shard<'a>> {
    let most_bytes = most_bytes.unwrap_or(u64::MAX);
    let mut parts = vec![Vec::new()];
    let mut bytes = 0u64;
    for item in &contents.items {
        // The sum of all was found to be in bounds.
        if bytes + item.bytes > most_bytes && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += item.bytes;
        parts.last_mut().expect("there is one").push(item);
    }
    let count = parts.len();
    let shard = |(index, items)| Shard {
        name: format.shard_name(index + 1, count),
        items,
    };
    parts.into_iter().enumerate().map(shard).collect()
}

/// The index of several shards.
pub(super) fn index(shards: &[Shard<'_>], format: Format) -> serde_json::Result<String> {
    let mut weight_map = BTreeMap::new();
    let mut total_size = 0;
    for shard in shards {
        for item in &shard.items {
            total_size += item.bytes;
            // In safetensors files, ties are no entries.
            let names = match format {
                Format::Torch => &item.names[..],
                Format::Safetensors => &item.names[..1],
            };
            weight_map.extend(
                names
                    .iter()
                    .map(|entry| (entry.name(), shard.name.as_str())),
            );
        }
    }
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    Ok(serde_json::to_string_pretty(&index)? + "\n")
}
