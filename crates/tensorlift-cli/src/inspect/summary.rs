use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use tensorlift::{Checkpoint, Dtype};

/// What a checkpoint holds, in numbers.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Summary<'a> {
    tensors: usize,
    elements: u64,
    bytes: u64,
    /// Tensors and bytes of each dtype.
    dtypes: BTreeMap<String, OfDtype>,
    files: Vec<String>,
    /// The format of each file.
    formats: Vec<&'static str>,
    metadata: &'a BTreeMap<String, String>,
    /// Configuration and tokenizer beside the weights.
    companions: Vec<String>,
    /// What is left out, and what is taken along.
    notes: Vec<String>,
    /// The path below which the model's own names likely begin, if not at the beginning.
    #[serde(skip_serializing_if = "String::is_empty")]
    root: String,
}

#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OfDtype {
    tensors: usize,
    bytes: u64,
}

impl<'a> Summary<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> Self {
        let entries = checkpoint.catalog().entries();
        let mut dtypes: BTreeMap<Dtype, OfDtype> = BTreeMap::new();
        for entry in entries {
            let of_dtype = dtypes.entry(entry.dtype()).or_default();
            of_dtype.tensors += 1;
            of_dtype.bytes = of_dtype.bytes.saturating_add(entry.byte_len());
        }
        let sum = |all: u64, more: u64| all.saturating_add(more);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        Self {
            tensors: entries.len(),
            elements: entries
                .iter()
                .map(|entry| entry.layout().elements() as u64)
                .fold(0, sum),
            bytes: dtypes.values().map(|of_dtype| of_dtype.bytes).fold(0, sum),
            dtypes: dtypes
                .into_iter()
                .map(|(dtype, of)| (dtype.to_string(), of))
                .collect(),
            files: checkpoint.files().map(path).collect(),
            formats: checkpoint.formats().collect(),
            metadata: checkpoint.catalog().metadata(),
            companions: checkpoint.companions().paths().map(path).collect(),
            notes: checkpoint.notes().iter().map(ToString::to_string).collect(),
            root: checkpoint.automatic_root(),
        }
    }

    pub(super) fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let mut dtypes = String::new();
        for (dtype, of_dtype) in &self.dtypes {
            let comma = if dtypes.is_empty() { "" } else { "," };
            // Writing into a string cannot fail.
            let _ = write!(dtypes, "{comma}{dtype}:{}", of_dtype.bytes);
        }
        let mut formats = self.formats.clone();
        formats.sort_unstable();
        formats.dedup();
        writeln!(
            out,
            "tensors={} elements={} bytes={} dtypes={dtypes} files={} formats={} notes={}",
            self.tensors,
            self.elements,
            self.bytes,
            self.files.len(),
            formats.join(","),
            self.notes.len(),
        )
    }
}
