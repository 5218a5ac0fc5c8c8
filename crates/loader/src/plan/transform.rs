use bytemuck::Pod;
use half::f16;
use serde::Serialize;
use tensorlift_tensor_meta::{ByteOrder, Dtype, Entry};

/// How the bytes of one entry change between reading and placing: byte order and PyTorch's lazy
/// conjugation and negation.
///
/// Only this and [`Cast`](crate::Cast) change bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Transform {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The first byte of the entry among those that arrive for its segment.
    pub from: u64,
    /// How many bytes the entry has.
    pub len: u64,
    /// Whether the byte order of each word is reversed.
    pub swap_bytes: bool,
    /// Whether imaginary parts are negated.
    pub conjugate: bool,
    /// Whether elements are negated.
    pub negate: bool,
}

impl Transform {
    /// The transform of an entry, if it needs one.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let (layout, dtype) = (entry.layout(), entry.dtype());
        if layout.is_plain(dtype) {
            return None;
        }
        Some(Self {
            dtype,
            from: 0,
            len: entry.span_bytes(),
            swap_bytes: layout.byte_order() == ByteOrder::Big && dtype.word_bytes() > 1,
            conjugate: layout.is_conjugated() && dtype.is_complex(),
            negate: layout.is_negated(),
        })
    }

    /// Converts a chunk that begins with byte `at` of those that arrive.
    ///
    /// Both ends of the chunk must be whole elements away from [`Transform::from`], or lie outside
    /// the
    /// entry.
    pub(crate) fn apply(&self, chunk: &mut [u8], at: u64) {
        let end = (self.from + self.len).min(at + chunk.len() as u64);
        let start = self.from.max(at);
        if start >= end {
            return;
        }
        let bytes = &mut chunk[(start - at) as usize..(end - at) as usize];
        if self.swap_bytes {
            for word in bytes.chunks_exact_mut(self.dtype.word_bytes()) {
                word.reverse();
            }
        }
        match (self.negate, self.conjugate) {
            (false, false) => {}
            // Minus the conjugate: only the real part is negated.
            (true, true) => self.flip_signs(bytes, |index| index % 2 == 0),
            (false, true) => self.flip_signs(bytes, |index| index % 2 == 1),
            (true, false) => self.flip_signs(bytes, |_| true),
        }
    }

    /// Negates the words, counted over the chunk, for which `which` holds.
    fn flip_signs(&self, bytes: &mut [u8], which: impl Fn(usize) -> bool) {
        match self.dtype {
            Dtype::F16 | Dtype::C32 => each(bytes, which, |value: f16| -value),
            Dtype::F32 | Dtype::C64 => each(bytes, which, |value: f32| -value),
            Dtype::F64 | Dtype::C128 => each(bytes, which, |value: f64| -value),
            Dtype::BF16 | Dtype::BC32 => each(bytes, which, |value: half::bf16| -value),
            Dtype::I8 => each(bytes, which, i8::wrapping_neg),
            Dtype::I16 => each(bytes, which, i16::wrapping_neg),
            Dtype::I32 => each(bytes, which, i32::wrapping_neg),
            Dtype::I64 => each(bytes, which, i64::wrapping_neg),
            Dtype::U8 => each(bytes, which, u8::wrapping_neg),
            Dtype::U16 => each(bytes, which, u16::wrapping_neg),
            Dtype::U32 => each(bytes, which, u32::wrapping_neg),
            Dtype::U64 => each(bytes, which, u64::wrapping_neg),
            // PyTorch negates no other type lazily.
            _ => {}
        }
    }
}

/// Changes the words at the positions that `which` holds for; the bytes need no alignment.
fn each<T: Pod>(bytes: &mut [u8], which: impl Fn(usize) -> bool, change: impl Fn(T) -> T) {
    for (index, word) in bytes.chunks_exact_mut(size_of::<T>()).enumerate() {
        if which(index) {
            let value = change(bytemuck::pod_read_unaligned(word));
            word.copy_from_slice(bytemuck::bytes_of(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(dtype: Dtype, swap_bytes: bool, conjugate: bool, negate: bool) -> Transform {
        Transform {
            dtype,
            from: 8,
            len: 16,
            swap_bytes,
            conjugate,
            negate,
        }
    }

    /// Converts 32 bytes at once and in pieces of 8; both must agree.
    fn transformed(transform: Transform, bytes: [u8; 32]) -> [u8; 32] {
        let (mut whole, mut pieces) = (bytes, bytes);
        transform.apply(&mut whole, 0);
        for (index, piece) in pieces.chunks_mut(8).enumerate() {
            transform.apply(piece, index as u64 * 8);
        }
        assert_eq!(whole, pieces);
        whole
    }

    #[test]
    fn swaps_words_of_the_entry_alone() {
        let bytes = std::array::from_fn(|index| index as u8);
        let swapped = transformed(transform(Dtype::C64, true, false, false), bytes);
        assert_eq!(swapped[..8], bytes[..8]);
        assert_eq!(swapped[8..16], [11, 10, 9, 8, 15, 14, 13, 12]);
        assert_eq!(swapped[24..], bytes[24..]);
    }

    #[test]
    fn resolves_lazy_bits() {
        let values = [0.0f32, 0.0, 1.0, 2.0, -3.0, f32::INFINITY, 0.0, 0.0];
        let bytes: [u8; 32] = bytemuck::cast(values);
        let floats = |transform| -> [f32; 8] { bytemuck::cast(transformed(transform, bytes)) };
        let conjugated = floats(transform(Dtype::C64, false, true, false));
        assert_eq!(conjugated[2..6], [1.0, -2.0, -3.0, f32::NEG_INFINITY]);
        let both = floats(transform(Dtype::C64, false, true, true));
        assert_eq!(both[2..6], [-1.0, 2.0, 3.0, f32::INFINITY]);
        let negated = floats(transform(Dtype::F32, false, false, true));
        assert_eq!(negated[2..6], [-1.0, -2.0, 3.0, f32::NEG_INFINITY]);
    }
}
