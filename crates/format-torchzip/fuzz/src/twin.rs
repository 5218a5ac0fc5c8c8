//! The naive twin of a load: a tensor's bytes, element by element, straight from the description.

use tensorlift_tensor_meta::{ByteOrder, Catalog, Dtype, Entry, Source};

/// The largest tensor that is worth the time, in bytes.
pub(crate) const MAX_BYTES: u64 = 64 << 10;

/// The row-major little-endian bytes of an entry; `None` for those without bytes, compressed or
/// large ones, and those whose elements are smaller than a byte.
pub(crate) fn bytes(file: &[u8], catalog: &Catalog, entry: &Entry) -> Option<Vec<u8>> {
    let record: &[u8] = match &catalog.record(entry).source {
        Source::Stored(extent) => &file[extent.offset as usize..][..extent.len as usize],
        Source::Inline { bytes, .. } => bytes,
        _ => return None,
    };
    let (layout, dtype) = (entry.layout(), entry.dtype());
    let width = dtype.byte_len().filter(|_| entry.byte_len() <= MAX_BYTES)?;
    let shape = layout.shape();
    let row_major = || {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        strides
    };
    let strides = match layout.strides() {
        _ if layout.elements() == 0 => return Some(Vec::new()),
        Some(strides) => strides.to_vec(),
        None => row_major(),
    };
    let mut out = Vec::with_capacity(entry.byte_len() as usize);
    for number in 0..layout.elements() {
        let (mut rest, mut at) = (number, 0);
        for (size, stride) in shape.iter().zip(&strides).rev() {
            at += rest % size * stride;
            rest /= size;
        }
        let mut element = record[entry.view().offset as usize + at * width..][..width].to_vec();
        if layout.byte_order() == ByteOrder::Big {
            element
                .chunks_mut(dtype.word_bytes())
                .for_each(<[u8]>::reverse);
        }
        if layout.is_conjugated() {
            negate(dtype, &mut element[width / 2..]);
        }
        if layout.is_negated() {
            element
                .chunks_mut(dtype.word_bytes())
                .for_each(|word| negate(dtype, word));
        }
        out.extend(element);
    }
    Some(out)
}

fn negate(dtype: Dtype, word: &mut [u8]) {
    use Dtype::{BC32, BF16, C32, C64, C128, F16, F32, F64};
    if matches!(dtype, F16 | BF16 | F32 | F64 | C32 | BC32 | C64 | C128) {
        *word.last_mut().expect("elements have bytes") ^= 0x80;
        return;
    }
    let mut carry = true;
    for byte in word {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}
