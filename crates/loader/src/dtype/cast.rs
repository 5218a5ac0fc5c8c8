//! Conversion of elements between floating-point types, through [`f32`], also in place.
//!
//! Every type but [`Dtype::F64`] fits into `f32`, so a conversion decodes a few elements into a
//! block on the stack and encodes that.
//! PyTorch rounds `F64` to the small types through `f32` too.

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;
use tensorlift_tensor_meta::Dtype;

use super::float8;

/// Elements that are converted at a time; they fit into the first-level cache.
const BLOCK: usize = 512;

/// A conversion between two floating-point types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cast {
    /// The type of the elements as they are read.
    from: Dtype,
    /// The type of the elements in memory.
    to: Dtype,
}

impl Cast {
    /// The cast between two types, unless they are the same; `None` for types other than floats of
    /// whole bytes.
    #[must_use]
    pub fn between(from: Dtype, to: Dtype) -> Option<Self> {
        (from != to && is_float(from) && is_float(to)).then_some(Self { from, to })
    }

    /// The type of the elements as they are read.
    #[must_use]
    pub const fn from(self) -> Dtype {
        self.from
    }

    /// The type of the elements in memory.
    #[must_use]
    pub const fn to(self) -> Dtype {
        self.to
    }

    /// The length of converted elements, by their length before, both in bytes.
    #[must_use]
    pub const fn converted_len(self, len: u64) -> u64 {
        // Widths are whole bytes.
        let elements = len / (self.from.bits() / 8);
        elements.saturating_mul(self.to.bits() / 8)
    }

    /// Whether elements become shorter.
    #[must_use]
    pub const fn narrows(self) -> bool {
        self.to.bits() < self.from.bits()
    }

    /// Converts elements from one buffer to another; both hold as many.
    ///
    /// # Panics
    /// If they do not.
    pub fn convert(self, from: &[u8], to: &mut [u8]) {
        let (read, written) = (self.from.alignment(), self.to.alignment());
        assert_eq!(from.len() / read, to.len() / written);
        let _span = self.span(from.len()).entered();
        let mut block = [0.0; BLOCK];
        let blocks = from
            .chunks(BLOCK * read)
            .zip(to.chunks_mut(BLOCK * written));
        for (from, to) in blocks {
            let block = &mut block[..from.len() / read];
            decode(self.from, from, block);
            encode(self.to, block, to);
        }
    }

    fn span(self, bytes: usize) -> tracing::Span {
        tracing::trace_span!("convert", from = %self.from, to = %self.to, bytes)
    }

    /// Converts elements within their buffer, from the front on.
    ///
    /// `bytes` is as long as the longer of both forms.
    /// Elements that become wider are read from its end, those that become narrower from its
    /// beginning; either way they begin at its beginning once they are converted.
    /// No element is written over before it was read.
    pub fn convert_in_place(self, bytes: &mut [u8]) {
        let (read, written) = (self.from.alignment(), self.to.alignment());
        let elements = bytes.len() / read.max(written);
        let _span = self.span(elements * read).entered();
        let first = match written > read {
            true => bytes.len() - elements * read,
            false => 0,
        };
        let mut block = [0.0; BLOCK];
        for start in (0..elements).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(elements - start)];
            let from = &bytes[first + start * read..][..block.len() * read];
            decode(self.from, from, block);
            encode(
                self.to,
                block,
                &mut bytes[start * written..][..block.len() * written],
            );
        }
    }
}

/// Whether elements are floats of whole bytes.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
        || float8::values(dtype).is_some()
}

/// Decodes elements; values of [`Dtype::F64`] are rounded.
fn decode(dtype: Dtype, from: &[u8], to: &mut [f32]) {
    match dtype {
        Dtype::F32 => bytemuck::cast_slice_mut(to).copy_from_slice(from),
        Dtype::F16 => copied::<f16>(from)[..to.len()].convert_to_f32_slice(to),
        Dtype::BF16 => each(from, to, |value: u16| {
            f32::from_bits(u32::from(value) << 16)
        }),
        Dtype::F64 => each(from, to, |value: f64| value as f32),
        _ => {
            if let Some(values) = float8::values(dtype) {
                each(from, to, |code: u8| values[usize::from(code)]);
            }
        }
    }
}

/// Encodes elements by rounding to nearest, ties to even.
fn encode(dtype: Dtype, from: &[f32], to: &mut [u8]) {
    match dtype {
        Dtype::F32 => to.copy_from_slice(bytemuck::cast_slice(from)),
        Dtype::F16 => {
            let mut halves = [f16::ZERO; BLOCK];
            let halves = &mut halves[..from.len()];
            halves.convert_from_f32_slice(from);
            to.copy_from_slice(bytemuck::cast_slice(halves));
        }
        Dtype::BF16 => put(from, to, to_bf16),
        Dtype::F64 => put(from, to, f64::from),
        _ => {
            if let Some(encode) = float8::encoder(dtype) {
                put(from, to, encode);
            }
        }
    }
}

/// The upper half of a value, rounded; NaN keeps a bit that says so.
fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let half = 0x7FFF + ((bits >> 16) & 1);
    (bits.wrapping_add(half) >> 16) as u16
}

/// The elements of a block in an array that is aligned for them.
fn copied<T: Pod>(bytes: &[u8]) -> [T; BLOCK] {
    let mut elements = [T::zeroed(); BLOCK];
    bytemuck::cast_slice_mut(&mut elements)[..bytes.len()].copy_from_slice(bytes);
    elements
}

fn each<T: Pod>(from: &[u8], to: &mut [f32], decode: impl Fn(T) -> f32) {
    for (from, to) in from.chunks_exact(size_of::<T>()).zip(to) {
        *to = decode(bytemuck::pod_read_unaligned(from));
    }
}

fn put<T: Pod>(from: &[f32], to: &mut [u8], encode: impl Fn(f32) -> T) {
    for (from, to) in from.iter().zip(to.chunks_exact_mut(size_of::<T>())) {
        to.copy_from_slice(bytemuck::bytes_of(&encode(*from)));
    }
}
