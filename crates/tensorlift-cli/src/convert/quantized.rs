//! Quantized tensors are written as integers, with a note of their scale and zero point.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tensorlift::{Checkpoint, Dtype, Entry, Loaded, Result};

/// The dtype and shape under which an entry's bytes are written: integers for quantized dtypes,
/// whole bytes where several values share one.
pub(super) fn as_integers(entry: &Entry) -> (Dtype, Vec<usize>) {
    let shape = entry.shape().to_vec();
    let per_byte = match entry.dtype() {
        Dtype::QInt8 => return (Dtype::I8, shape),
        Dtype::QUInt8 => return (Dtype::U8, shape),
        Dtype::QInt32 => return (Dtype::I32, shape),
        Dtype::QUInt4x2 => 2,
        Dtype::QUInt2x4 => 4,
        other => return (other, shape),
    };
    let packed = match shape.split_last() {
        Some((last, rest)) if last % per_byte == 0 => [rest, &[last / per_byte]].concat(),
        // It has a size, so that is in memory.
        _ => vec![entry.byte_len() as usize],
    };
    (Dtype::U8, packed)
}

/// A line of metadata for each quantized tensor: `quantized:NAME`, and an object with its dtype,
/// its shape where values were packed, and its scale and zero point, or the names of the tensors
/// that hold these.
pub(super) fn notes(checkpoint: &Checkpoint) -> Result<Vec<(String, String)>> {
    let entries = checkpoint.catalog().entries();
    let quantized: Vec<&Entry> = entries.iter().filter(|entry| is_quantized(entry)).collect();
    if quantized.is_empty() {
        return Ok(Vec::new());
    }
    let scalars: HashSet<String> = quantized
        .iter()
        .flat_map(|entry| ["scale", "zero_point"].map(|part| format!("{}.{part}", entry.name())))
        .collect();
    let is_scalar = |entry: &Entry| entry.shape().is_empty() && scalars.contains(entry.name());
    let loaded = checkpoint.loader().select(is_scalar).load()?;
    let note = |entry: &Entry| (format!("quantized:{}", entry.name()), note(entry, &loaded));
    Ok(quantized.into_iter().map(note).collect())
}

fn is_quantized(entry: &Entry) -> bool {
    matches!(
        entry.dtype(),
        Dtype::QInt8 | Dtype::QUInt8 | Dtype::QInt32 | Dtype::QUInt4x2 | Dtype::QUInt2x4
    )
}

fn note(entry: &Entry, loaded: &Loaded) -> String {
    let mut note = Map::new();
    note.insert("dtype".to_owned(), json!(entry.dtype()));
    if entry.dtype().byte_len().is_none() {
        note.insert("shape".to_owned(), json!(entry.shape()));
    }
    for part in ["scale", "zero_point", "scales", "zero_points"] {
        let name = format!("{}.{part}", entry.name());
        if let Some(value) = scalar(loaded, &name) {
            note.insert(part.to_owned(), value);
        } else if loaded.catalog().get(&name).is_some() {
            note.insert(part.to_owned(), json!(name));
        }
    }
    Value::Object(note).to_string()
}

/// The value of a loaded scalar.
fn scalar(loaded: &Loaded, name: &str) -> Option<Value> {
    let tensor = loaded.tensor(name).ok()?;
    match tensor.dtype() {
        Dtype::F64 => Some(json!(tensor.as_slice::<f64>().ok()?.first()?)),
        Dtype::I64 => Some(json!(tensor.as_slice::<i64>().ok()?.first()?)),
        _ => None,
    }
}
