use std::collections::{BTreeMap, HashMap};

use tensorlift::{Checkpoint, Dtype, Entry, Result};
use tensorlift_format_safetensors as safetensors;
use tensorlift_format_torchzip::write as torch;
use tensorlift_tensor_meta::{Layout, Source, View};

use super::error::{ConvertError, Unfit};
use super::output::Format;
use super::quantized;

/// What is to be written.
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
    /// Further names of the same view of the same bytes.
    pub(super) ties: Vec<&'a Entry>,
    /// As it is written.
    pub(super) dtype: Dtype,
    /// As it is written.
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// Entries for which this is equal are one tensor.
type Identity<'a> = (View, Dtype, &'a Layout);

impl<'a> Contents<'a> {
    /// Finds out what there is to write, and whether the format can hold it.
    pub(super) fn survey(checkpoint: &'a Checkpoint, format: Format) -> Result<Self> {
        let mut contents = Self {
            items: Vec::new(),
            bytes: 0,
            metadata: metadata(checkpoint, format)?,
        };
        let groups = contents.groups(checkpoint.catalog().entries(), format);
        let (mut without_bytes, mut unfit) = (Vec::new(), Vec::new());
        for group in groups {
            let (&entry, ties) = group.split_first().expect("groups begin with an entry");
            let ties = ties.to_vec();
            let record = checkpoint.catalog().record(entry);
            if matches!(record.source, Source::Absent { .. }) {
                without_bytes.extend(group.iter().map(|entry| entry.name().to_owned()));
                continue;
            }
            let (dtype, shape) = quantized::as_integers(entry);
            if !fits(format, entry.name(), dtype, &shape) {
                let name = entry.name().to_owned();
                unfit.push(Unfit { name, dtype, shape });
                continue;
            }
            let bytes = entry.bytes();
            let sum = contents.bytes.checked_add(bytes);
            // Signed, as positions in files are.
            contents.bytes = sum
                .filter(|&sum| i64::try_from(sum).is_ok())
                .ok_or(ConvertError::TooLarge)?;
            contents.items.push(Item {
                entry,
                ties,
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

    /// Entries that are one tensor, the one that keeps its name first: the first by name, as in
    /// Python's safetensors.
    fn groups(&self, entries: &'a [Entry], format: Format) -> Vec<Vec<&'a Entry>> {
        let mut groups: Vec<Vec<&Entry>> = Vec::new();
        let mut positions: HashMap<Identity<'_>, usize> = HashMap::new();
        for entry in entries {
            // A tensor of no bytes is not tied to anything.
            let position = match entry.bytes() {
                0 => groups.len(),
                _ => *positions
                    .entry((entry.view(), entry.dtype(), entry.layout()))
                    .or_insert(groups.len()),
            };
            match groups.get_mut(position) {
                Some(group) => group.push(entry),
                None => groups.push(vec![entry]),
            }
        }
        let mut apart = Vec::new();
        for group in &mut groups {
            group.sort_by_key(|entry| entry.name());
            // A name that says something else in the metadata already cannot be kept there.
            let is_free = |entry: &Entry| !self.metadata.contains_key(entry.name());
            if format == Format::Safetensors && group.len() > 1 {
                let kept = group[0];
                apart.extend(
                    group[1..]
                        .iter()
                        .filter(|tie| !is_free(tie))
                        .map(|tie| vec![*tie]),
                );
                group.retain(|entry| entry.name() == kept.name() || is_free(entry));
            }
        }
        groups.extend(apart);
        groups
    }
}

impl<'a> Item<'a> {
    fn tied(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, '_> {
        let kept = self.entry.name();
        self.ties.iter().map(move |tie| (tie.name(), kept))
    }
}

/// What the files say of themselves, and what the format cannot say of its tensors.
fn metadata(checkpoint: &Checkpoint, format: Format) -> Result<BTreeMap<String, String>> {
    if format == Format::Torch {
        return Ok(BTreeMap::new());
    }
    let mut lines = checkpoint.catalog().metadata().clone();
    // Readers ask for this line; one that is there already knows better.
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
            // Its readers multiply all sizes, though one of them may be 0.
            let elements = shape
                .iter()
                .try_fold(1usize, |product, &size| product.checked_mul(size));
            // This name is the format's own.
            name != "__metadata__" && elements.is_some() && safetensors::to_format(dtype).is_some()
        }
        Format::Torch => torch::is_writable(dtype, shape),
    }
}
