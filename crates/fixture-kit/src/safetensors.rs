//! safetensors files by recipe.

use std::io::{self, Write};

use serde_json::Value;

use crate::content::{CHUNK, fill_elements};
use crate::{CheckpointSpec, TensorSpec};

/// Options of a safetensors writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetensorsOptions {
    /// The data begins at a multiple of this many bytes, by spaces after the header. Default: 8.
    pub alignment: usize,
    /// More spaces after the header, which shift the data out of that alignment. Default: 0.
    pub extra_spaces: usize,
    /// Whether the header lists the tensors from the last to the first. Default: no.
    pub reversed_header: bool,
    /// Whether the fields of each tensor are in another order, with white space between them.
    /// Default: no.
    pub odd_json: bool,
}

impl Default for SafetensorsOptions {
    fn default() -> Self {
        Self {
            alignment: 8,
            extra_spaces: 0,
            reversed_header: false,
            odd_json: false,
        }
    }
}

/// A file of `header` and `data` as they are, with the header's length before them.
#[must_use]
pub fn raw_file(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(data);
    file
}

/// The header of the tensors of a shard.
pub(crate) fn header(spec: &CheckpointSpec, shard: usize, options: &SafetensorsOptions) -> Vec<u8> {
    let mut members = Vec::new();
    let mut offset = 0;
    for tensor in &spec.tensors[spec.positions(shard)] {
        let end = offset + tensor.bytes() as u64;
        members.push(member(tensor, offset, end, options.odd_json));
        offset = end;
    }
    if options.reversed_header {
        members.reverse();
    }
    if !spec.metadata.is_empty() {
        let metadata = serde_json::to_string(&spec.metadata).expect("strings are JSON");
        members.insert(0, format!("\"__metadata__\":{metadata}"));
    }
    let mut header = format!("{{{}}}", members.join(",")).into_bytes();
    let padded = (8 + header.len()).next_multiple_of(options.alignment.max(1)) - 8;
    header.resize(padded + options.extra_spaces, b' ');
    header
}

fn member(tensor: &TensorSpec, first: u64, end: u64, odd: bool) -> String {
    let name = Value::from(tensor.name.as_str());
    let (dtype, shape) = (tensor.dtype, Value::from(tensor.shape.as_slice()));
    if odd {
        format!(
            "\n {name} : {{\t\"data_offsets\" : [ {first} , {end} ] ,\"shape\":{shape}, \"dtype\" :\"{dtype}\" }}"
        )
    } else {
        format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{first},{end}]}}"
        )
    }
}

/// Writes a shard.
pub(crate) fn write(
    spec: &CheckpointSpec,
    shard: usize,
    options: &SafetensorsOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let header = header(spec, shard, options);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut chunk = vec![0; CHUNK];
    for position in spec.positions(shard) {
        let tensor = &spec.tensors[position];
        if tensor.view.is_some() {
            out.write_all(&spec.tensor_bytes(position))?;
            continue;
        }
        let (storage, _) = spec.storage_of(position);
        let (seed, len) = (spec.stream(storage), tensor.bytes());
        for offset in (0..len).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min(len - offset)];
            fill_elements(seed, tensor.dtype, offset as u64, part);
            out.write_all(part)?;
        }
    }
    Ok(())
}
