//! anamnesis: its pickle reader, and its reader of safetensors headers.

use std::fs;

use anamnesis::{parse_pth, parse_safetensors_header};
use tensorlift_bench_protocol::{Checksum, Outcome, Request, Result, measure};

type Tensors = Vec<(String, Vec<u8>)>;

/// `parse_pth`: every tensor is copied out of its mapping.
pub(crate) fn pth(request: &Request) -> Result<()> {
    let load = || {
        let mut tensors = Tensors::new();
        for path in request.files()? {
            for tensor in parse_pth(path)?.tensors()? {
                tensors.push((tensor.name, tensor.data.into_owned()));
            }
        }
        Ok(tensors)
    };
    measure(request, load, sum)
}

/// `parse_safetensors_header` over the bytes of the file: of a file that is not quantized, it hands
/// out where tensors are, and each is copied from there.
pub(crate) fn safetensors(request: &Request) -> Result<()> {
    let load = || {
        let mut tensors = Tensors::new();
        for path in request.files()? {
            let bytes = fs::read(path)?;
            let header = parse_safetensors_header(&bytes)?;
            let data = &bytes[header.header_size + 8..];
            for tensor in header.tensors {
                let (start, end) = tensor.data_offsets;
                let tensor_bytes = data
                    .get(start..end)
                    .ok_or("a tensor ends behind the file")?;
                tensors.push((tensor.name, tensor_bytes.to_vec()));
            }
        }
        Ok(tensors)
    };
    measure(request, load, sum)
}

fn sum(tensors: &Tensors, checksum: &mut Checksum, _: &mut Outcome) -> Result<()> {
    for (name, bytes) in tensors {
        checksum.tensor(name, bytes);
    }
    Ok(())
}
