use std::collections::{BTreeMap, HashMap, HashSet};

use tensorlift::{Catalog, Checkpoint, Dtype, DtypePolicy, Entry, Result};
use tensorlift_format_safetensors as safetensors;
use tensorlift_format_torchzip::write as torch;

use super::error::{ConvertError, Unfit};
use super::output::Format;
use super::quantized;
use crate::batches::{has_bytes, identity};

/// The contents to write.
pub(super) struct Contents<'a> {
    /// In file order.
    pub(super) items: Vec<Item<'a>>,
    /// Of all items together.
    pub(super) bytes: u64,
    /// Lines of metadata for every file.
    pub(super) metadata: BTreeMap<String, String>,
}

/// A tensor that is stored, under one name or several.
pub(super) struct Item<'a> {
    /// The entry whose bytes it has.
    pub(super) entry: &'a Entry,
    /// All entries of the same view of the same bytes; the one under whose name it is stored
    /// first.
    pub(super) names: Vec<&'a Entry>,
    /// As it is written.
    pub(super) dtype: Dtype,
    /// As it is written.
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// Under which of their names tied tensors are stored.
pub(super) enum Ties<'a> {
    /// Under one: the one among `kept`, else the first of the file that is a name of a state dict.
    One { kept: &'a [String] },
    /// Under each.
    All,
}

impl<'a> Contents<'a> {
    /// Finds out what there is to write, and whether the format can hold it.
    pub(super) fn survey(
        checkpoint: &'a Checkpoint,
        format: Format,
        ties: &Ties<'_>,
        dtype: &DtypePolicy,
    ) -> Result<Self> {
        let casts = dtype.casts(checkpoint.catalog())?;
        let mut contents = Self {
            items: Vec::new(),
            bytes: 0,
            metadata: metadata(checkpoint, format)?,
        };
        let (mut without_bytes, mut unfit) = (Vec::new(), Vec::new());
        for names in contents.groups(checkpoint.catalog(), format, ties)? {
            let entry = names[0];
            if !has_bytes(checkpoint, entry) {
                without_bytes.extend(names.iter().map(|entry| entry.name().to_owned()));
                continue;
            }
            let (dtype, shape) = match quantized::as_integers(entry) {
                (dtype, shape) if dtype == entry.dtype() => {
                    (casts.of_entry(checkpoint.catalog(), entry), shape)
                }
                integers => integers,
            };
            if !fits(format, entry.name(), dtype, &shape) {
                let name = entry.name().to_owned();
                unfit.push(Unfit { name, dtype, shape });
                continue;
            }
            let converted = entry.layout().contiguous_bytes(dtype);
            let bytes = match dtype == entry.dtype() {
                false => converted.ok_or(ConvertError::TooLarge)?,
                true => entry.byte_len(),
            };
            let sum = contents.bytes.checked_add(bytes);
            // Signed, as positions in files are.
            contents.bytes = sum
                .filter(|&sum| i64::try_from(sum).is_ok())
                .ok_or(ConvertError::TooLarge)?;
            contents.items.push(Item {
                entry,
                names,
                dtype,
                shape,
                bytes,
            });
        }
        if !without_bytes.is_empty() {
            return Err(ConvertError::NoBytes(without_bytes))?;
        }
        if !unfit.is_empty() {
            return Err(ConvertError::Unfit {
                format,
                tensors: unfit,
            })?;
        }
        Ok(contents)
    }

    /// Further names, each with the one under which the tensor is stored.
    pub(super) fn tied(&self) -> BTreeMap<&'a str, &'a str> {
        self.items.iter().flat_map(Item::tied).collect()
    }

    /// Entries that are one tensor and stored once, the one that keeps its name first.
    fn groups(
        &self,
        catalog: &'a Catalog,
        format: Format,
        ties: &Ties<'_>,
    ) -> Result<Vec<Vec<&'a Entry>>> {
        let kept: HashSet<&str> = match ties {
            Ties::All => HashSet::new(),
            Ties::One { kept } => kept.iter().map(String::as_str).collect(),
        };
        let unknown = kept.iter().filter(|name| catalog.get(name).is_none());
        let unknown: Vec<String> = unknown.map(|&name| name.to_owned()).collect();
        if !unknown.is_empty() {
            return Err(ConvertError::NoSuchNames(unknown))?;
        }
        // In PyTorch files, names share a storage.
        let is_apart = matches!(ties, Ties::All) && format == Format::Safetensors;
        let mut groups: Vec<Vec<&Entry>> = Vec::new();
        let mut positions = HashMap::new();
        for entry in catalog.entries() {
            // A tensor of no bytes is not tied to anything.
            let position = match entry.byte_len() {
                0 => groups.len(),
                _ if is_apart => groups.len(),
                _ => *positions.entry(identity(entry)).or_insert(groups.len()),
            };
            match groups.get_mut(position) {
                Some(group) => group.push(entry),
                None => groups.push(vec![entry]),
            }
        }
        let mut apart = Vec::new();
        for group in &mut groups {
            // Stable: names of one kind keep the order of the file.
            group.sort_by_key(|entry| (!kept.contains(entry.name()), is_internal(entry.name())));
            // A name that says something else in the metadata already cannot be kept there, and
            // one that was chosen is stored.
            let stays = |entry: &Entry| {
                !self.metadata.contains_key(entry.name()) && !kept.contains(entry.name())
            };
            if format == Format::Safetensors {
                let (first, rest) = (group[0], group.split_off(1));
                let (tied, stored): (Vec<_>, Vec<_>) =
                    rest.into_iter().partition(|entry| stays(entry));
                *group = [vec![first], tied].concat();
                apart.extend(stored.into_iter().map(|entry| vec![entry]));
            }
        }
        groups.extend(apart);
        Ok(groups)
    }
}

impl<'a> Item<'a> {
    /// The name under which it is stored.
    pub(super) fn name(&self) -> &'a str {
        self.entry.name()
    }

    /// The other names, each with the one under which it is stored.
    pub(super) fn tied(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, '_> {
        let kept = self.name();
        let others = self.names.iter().skip(1);
        others.map(move |tie| (tie.name(), kept))
    }
}

/// Whether a name is that of a list within a module, as `rnn._flat_weights.0`, and so of no state
/// dict.
fn is_internal(name: &str) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.split('.').zip(name.split('.').skip(1));
    let mut lists = parts.filter(|(list, position)| list.starts_with('_') && is_number(position));
    lists.next().is_some()
}

/// The metadata of the files, and properties of tensors that the format lacks.
fn metadata(checkpoint: &Checkpoint, format: Format) -> Result<BTreeMap<String, String>> {
    if format == Format::Torch {
        return Ok(BTreeMap::new());
    }
    let mut lines = checkpoint.catalog().metadata().clone();
    // Lines about further names of tied tensors: these are entries, and get new lines.
    lines.retain(|key, _| checkpoint.catalog().get(key).is_none());
    // Readers expect this line; an existing one is kept.
    lines
        .entry("format".to_owned())
        .or_insert_with(|| "pt".to_owned());
    for (key, line) in quantized::notes(checkpoint)? {
        lines.entry(key).or_insert(line);
    }
    Ok(lines)
}

fn fits(format: Format, name: &str, dtype: Dtype, shape: &[usize]) -> bool {
    match format {
        Format::Safetensors => {
            // Its readers multiply all sizes, although one of them may be 0.
            let elements = shape
                .iter()
                .try_fold(1usize, |product, &size| product.checked_mul(size));
            // This name is the format's own.
            name != "__metadata__" && elements.is_some() && safetensors::to_format(dtype).is_some()
        }
        Format::Torch => torch::is_writable(dtype, shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_within_modules_are_internal() {
        for name in ["rnn._flat_weights.0", "_flat_weights.12", "a._b.0.c"] {
            assert!(is_internal(name), "{name}");
        }
        for name in [
            "rnn.weight_ih_l0",
            "layers.0.w",
            "_orig_mod.layer.0.w",
            "_x",
            "a._0",
        ] {
            assert!(!is_internal(name), "{name}");
        }
    }
}
