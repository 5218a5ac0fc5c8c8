//! The plain way to get a tensor's bytes, element by element: readers and loaders are compared with
//! it.

use std::io::Read;

use flate2::read::DeflateDecoder;
use tensorlift_tensor_meta::{ByteOrder, Catalog, Dtype, Entry, Layout, Source};

/// The row-major little-endian bytes of an entry, out of the bytes of its shard; `None` for a
/// tensor without bytes.
///
/// # Panics
/// If the shard does not hold what the catalog says.
#[must_use]
pub fn tensor(shard: &[u8], catalog: &Catalog, entry: &Entry) -> Option<Vec<u8>> {
    let record = record(shard, &catalog.record(entry).source)?;
    let first = entry.view().offset as usize;
    Some(row_major(&record[first..], entry.dtype(), entry.layout()))
}

/// The decoded bytes of a record.
fn record(shard: &[u8], source: &Source) -> Option<Vec<u8>> {
    Some(match source {
        Source::Stored(extent) => shard[extent.offset as usize..][..extent.len as usize].to_vec(),
        Source::Deflated { extent, len } => {
            let packed = &shard[extent.offset as usize..][..extent.len as usize];
            let mut record = Vec::new();
            let read = DeflateDecoder::new(packed).read_to_end(&mut record);
            assert_eq!(read.expect("a deflate stream") as u64, *len);
            record
        }
        Source::Inline { bytes, .. } => bytes.to_vec(),
        _ => return None,
    })
}

/// The elements of a layout in row-major order; the first one is at the beginning of `bytes`.
///
/// # Panics
/// If elements smaller than a byte are strided, or lie outside of `bytes`.
#[must_use]
pub fn row_major(bytes: &[u8], dtype: Dtype, layout: &Layout) -> Vec<u8> {
    let Some(width) = dtype.byte_len() else {
        assert!(layout.is_contiguous());
        let len = layout.contiguous_bytes(dtype).expect("whole bytes");
        return bytes[..len as usize].to_vec();
    };
    let strides = layout.element_strides();
    let mut out = Vec::new();
    for number in 0..layout.elements() {
        let (mut rest, mut at) = (number, 0);
        for (size, stride) in layout.shape().iter().zip(strides.iter()).rev() {
            at += rest % size * stride;
            rest /= size;
        }
        let mut element = bytes[at * width..][..width].to_vec();
        let word_bytes = dtype.word_bytes();
        if layout.byte_order() == ByteOrder::Big {
            element.chunks_mut(word_bytes).for_each(<[u8]>::reverse);
        }
        if layout.is_conjugated() {
            negate(dtype, &mut element[width / 2..]);
        }
        if layout.is_negated() {
            let words = element.chunks_mut(word_bytes);
            words.for_each(|word| negate(dtype, word));
        }
        out.extend(element);
    }
    out
}

/// Changes the sign of a number: that of a float is a bit, that of an integer is its complement.
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
