//! Comparing elements as numbers.

use std::fmt;

use tensorlift::{Cast, Dtype};

/// Elements that are decoded at once.
const BLOCK: usize = 512;

/// How far values may be apart and count as equal.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) absolute: f64,
    /// Of the second value.
    pub(super) relative: f64,
}

/// What counts as equal beyond equal values: ` within --atol 1e-5`; nothing where nothing does.
impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = [("--atol", self.absolute), ("--rtol", self.relative)];
        let given = given.into_iter().filter(|&(_, number)| number > 0.0);
        for (position, (option, number)) in given.enumerate() {
            let word = if position == 0 { "within" } else { "and" };
            write!(f, " {word} {option} {number:e}")?;
        }
        Ok(())
    }
}

/// How far the elements of two tensors are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Distance {
    pub(super) differing: u64,
    /// Absent where elements are not compared as numbers.
    pub(super) max_absolute: Option<f64>,
    pub(super) max_relative: Option<f64>,
}

impl Distance {
    /// Compares row-major elements of these dtypes; the slices have equally many.
    pub(super) fn between(
        (dtype, a): (Dtype, &[u8]),
        (other, b): (Dtype, &[u8]),
        tolerance: Tolerance,
    ) -> Self {
        if dtype == other && a == b {
            return Self::default();
        }
        let (Some(one), Some(other)) = (Decoder::of(dtype), Decoder::of(other)) else {
            return Self {
                differing: bytewise(dtype, a, b),
                ..Self::default()
            };
        };
        let mut distance = Self {
            max_absolute: Some(0.0),
            max_relative: Some(0.0),
            ..Self::default()
        };
        let (mut left, mut right) = ([0.0; BLOCK], [0.0; BLOCK]);
        let blocks = a
            .chunks(BLOCK * one.width)
            .zip(b.chunks(BLOCK * other.width));
        let same_dtype = one.dtype == other.dtype;
        for (a, b) in blocks {
            // Equal bytes are equal values, of NaN too.
            if same_dtype && a == b {
                continue;
            }
            let count = one.decode(a, &mut left);
            other.decode(b, &mut right);
            for (&one, &other) in left[..count].iter().zip(&right[..count]) {
                distance.add(one, other, tolerance);
            }
        }
        distance
    }

    fn add(&mut self, one: f64, other: f64, tolerance: Tolerance) {
        if one == other || (one.is_nan() && other.is_nan()) {
            return;
        }
        let apart = (one - other).abs();
        let absolute = if apart.is_nan() { f64::INFINITY } else { apart };
        let largest = one.abs().max(other.abs());
        let relative = match absolute.is_infinite() {
            true => f64::INFINITY,
            false => absolute / largest,
        };
        self.max_absolute = self.max_absolute.map(|most| most.max(absolute));
        self.max_relative = self.max_relative.map(|most| most.max(relative));
        let most = tolerance.absolute + tolerance.relative * other.abs();
        // A bound that is NaN or infinite by an infinite value allows nothing.
        if !most.is_finite() || absolute > most {
            self.differing += 1;
        }
    }

    /// Adds the distance of another part of the same tensors.
    pub(super) fn join(self, part: Self) -> Self {
        let most = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Self {
            differing: self.differing + part.differing,
            max_absolute: most(self.max_absolute, part.max_absolute),
            max_relative: most(self.max_relative, part.max_relative),
        }
    }
}

/// The elements that differ in their bytes; of packed ones, the bytes.
fn bytewise(dtype: Dtype, a: &[u8], b: &[u8]) -> u64 {
    let width = dtype.byte_len().unwrap_or(1);
    if a.len() != b.len() {
        return (a.len().max(b.len()) / width) as u64;
    }
    let pairs = a.chunks(width).zip(b.chunks(width));
    pairs.filter(|(one, other)| one != other).count() as u64
}

/// How elements become numbers.
struct Decoder {
    /// Of a component, where elements are complex.
    dtype: Dtype,
    width: usize,
    cast: Option<Cast>,
}

impl Decoder {
    /// `None` for packed elements.
    fn of(dtype: Dtype) -> Option<Self> {
        let component = match dtype {
            Dtype::C32 => Dtype::F16,
            Dtype::BC32 => Dtype::BF16,
            Dtype::C64 => Dtype::F32,
            Dtype::C128 => Dtype::F64,
            Dtype::QInt8 => Dtype::I8,
            Dtype::QUInt8 => Dtype::U8,
            Dtype::QInt32 => Dtype::I32,
            other => other,
        };
        let width = component.byte_len()?;
        let is_direct = matches!(
            component,
            Dtype::Bool
                | Dtype::I8
                | Dtype::U8
                | Dtype::I16
                | Dtype::U16
                | Dtype::I32
                | Dtype::U32
                | Dtype::I64
                | Dtype::U64
                | Dtype::F32
                | Dtype::F64
        );
        let cast = match is_direct {
            true => None,
            false => Some(Cast::between(component, Dtype::F32)?),
        };
        Some(Self {
            dtype: component,
            width,
            cast,
        })
    }

    /// Decodes up to [`BLOCK`] elements and returns how many.
    #[expect(clippy::cast_lossless, reason = "one form for all types")]
    fn decode(&self, bytes: &[u8], to: &mut [f64; BLOCK]) -> usize {
        let count = bytes.len() / self.width;
        let mut floats = [0; BLOCK * 4];
        let (dtype, bytes) = match self.cast {
            None => (self.dtype, bytes),
            Some(cast) => {
                let floats = &mut floats[..count * 4];
                cast.convert(bytes, floats);
                (Dtype::F32, &*floats)
            }
        };
        macro_rules! numbers {
            ($type:ty) => {
                for (to, bytes) in to.iter_mut().zip(bytes.chunks_exact(size_of::<$type>())) {
                    let mut own = [0; size_of::<$type>()];
                    own.copy_from_slice(bytes);
                    *to = <$type>::from_le_bytes(own) as f64;
                }
            };
        }
        match dtype {
            Dtype::I8 => numbers!(i8),
            Dtype::I16 => numbers!(i16),
            Dtype::U16 => numbers!(u16),
            Dtype::I32 => numbers!(i32),
            Dtype::U32 => numbers!(u32),
            Dtype::I64 => numbers!(i64),
            Dtype::U64 => numbers!(u64),
            Dtype::F32 => numbers!(f32),
            Dtype::F64 => numbers!(f64),
            _ => numbers!(u8),
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance {
        absolute: 0.0,
        relative: 0.0,
    };

    fn floats(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn elements_are_compared_as_numbers() {
        let (a, b) = (floats(&[1.0, 2.0, f32::NAN]), floats(&[1.0, 2.5, f32::NAN]));
        let distance = Distance::between((Dtype::F32, &a), (Dtype::F32, &b), EXACT);
        let expected = Distance {
            differing: 1,
            max_absolute: Some(0.5),
            max_relative: Some(0.2),
        };
        assert_eq!(distance, expected);
        let near = Tolerance {
            absolute: 0.0,
            relative: 0.2,
        };
        let distance = Distance::between((Dtype::F32, &a), (Dtype::F32, &b), near);
        assert_eq!(distance.differing, 0);
        let integers: Vec<u8> = [1i64, 2, 7]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let distance = Distance::between((Dtype::F32, &a), (Dtype::I64, &integers), EXACT);
        assert_eq!(
            (distance.differing, distance.max_absolute),
            (1, Some(f64::INFINITY))
        );
    }

    #[test]
    fn packed_elements_are_compared_as_bytes() {
        let distance = Distance::between((Dtype::F4, &[1, 2]), (Dtype::F4, &[1, 3]), EXACT);
        assert_eq!((distance.differing, distance.max_absolute), (1, None));
    }

    #[test]
    fn every_dtype_has_a_form_of_comparison() {
        for &dtype in Dtype::ALL {
            let width = dtype.byte_len().unwrap_or(1);
            let (zeros, ones) = (vec![0; width * 700], vec![1; width * 700]);
            let same = Distance::between((dtype, &ones), (dtype, &ones), EXACT);
            assert_eq!(same, Distance::default());
            let other = Distance::between((dtype, &zeros), (dtype, &ones), EXACT);
            assert!(other.differing >= 700, "{dtype} {other:?}");
        }
    }
}
