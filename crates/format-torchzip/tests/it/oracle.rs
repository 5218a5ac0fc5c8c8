//! The naive twin of a loader: a tensor's bytes, element by element, straight from the
//! description.

use std::io::Read;

use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{ByteOrder, Catalog, Dtype, Entry, Source};

/// The row-major little-endian bytes of an entry, or `None` for meta tensors.
pub(crate) fn resolve(storage: &dyn Storage, catalog: &Catalog, entry: &Entry) -> Option<Vec<u8>> {
    let record = match &catalog.record(entry).source {
        Source::Stored(extent) => read(storage, extent.offset, extent.len),
        Source::Deflated { extent, len } => {
            let packed = read(storage, extent.offset, extent.len);
            let mut bytes = Vec::new();
            flate2::read::DeflateDecoder::new(packed.as_slice())
                .read_to_end(&mut bytes)
                .unwrap();
            assert_eq!(bytes.len() as u64, *len);
            bytes
        }
        Source::Inline { bytes, .. } => bytes.to_vec(),
        _ => return None,
    };
    let (layout, dtype) = (entry.layout(), entry.dtype());
    let first = entry.view().offset as usize;
    let Some(width) = dtype.byte_len() else {
        // Packed types are contiguous in every file we know.
        assert!(layout.is_contiguous());
        return Some(record[first..][..entry.byte_len() as usize].to_vec());
    };
    let shape = layout.shape();
    let strides = match layout.strides() {
        Some(strides) => strides.to_vec(),
        None => row_major(shape),
    };
    let mut bytes = Vec::new();
    let mut index = vec![0; shape.len()];
    for _ in 0..layout.elements() {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        let mut element = record[first + at * width..][..width].to_vec();
        if layout.byte_order() == ByteOrder::Big {
            for word in element.chunks_mut(dtype.word_bytes()) {
                word.reverse();
            }
        }
        if layout.is_conjugated() {
            negate(dtype, &mut element[width / 2..]);
        }
        if layout.is_negated() {
            for word in element.chunks_mut(dtype.word_bytes()) {
                negate(dtype, word);
            }
        }
        bytes.extend(element);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Some(bytes)
}

fn read(storage: &dyn Storage, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    storage.read_exact_at(offset, &mut bytes).unwrap();
    bytes
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn negate(dtype: Dtype, word: &mut [u8]) {
    match dtype {
        Dtype::F16
        | Dtype::BF16
        | Dtype::F32
        | Dtype::F64
        | Dtype::C32
        | Dtype::BC32
        | Dtype::C64
        | Dtype::C128 => {
            if let Some(last) = word.last_mut() {
                *last ^= 0x80;
            }
        }
        _ => {
            let mut carry = true;
            for byte in word {
                let (value, overflow) = (!*byte).overflowing_add(u8::from(carry));
                (*byte, carry) = (value, overflow);
            }
        }
    }
}
