use tensorlift_tensor_meta::Dtype;

/// How PyTorch 2.15 pickles tensors of a dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `_rebuild_tensor_v2` over the class of this name in `torch`, which counts elements.
    Typed(&'static str),
    /// `_rebuild_tensor_v3` over an `UntypedStorage`, which counts bytes, and the dtype of this
    /// name in `torch`.
    Untyped(&'static str),
}

impl Kind {
    /// `None` for dtypes that PyTorch lacks, and for quantized ones: these take a scale that a
    /// dtype does not tell.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::Bool => Kind::Typed("BoolStorage"),
            Dtype::U8 => Kind::Typed("ByteStorage"),
            Dtype::I8 => Kind::Typed("CharStorage"),
            Dtype::I16 => Kind::Typed("ShortStorage"),
            Dtype::I32 => Kind::Typed("IntStorage"),
            Dtype::I64 => Kind::Typed("LongStorage"),
            Dtype::F16 => Kind::Typed("HalfStorage"),
            Dtype::BF16 => Kind::Typed("BFloat16Storage"),
            Dtype::F32 => Kind::Typed("FloatStorage"),
            Dtype::F64 => Kind::Typed("DoubleStorage"),
            Dtype::C64 => Kind::Typed("ComplexFloatStorage"),
            Dtype::C128 => Kind::Typed("ComplexDoubleStorage"),
            Dtype::C32 => Kind::Untyped("complex32"),
            Dtype::BC32 => Kind::Untyped("bcomplex32"),
            Dtype::U16 => Kind::Untyped("uint16"),
            Dtype::U32 => Kind::Untyped("uint32"),
            Dtype::U64 => Kind::Untyped("uint64"),
            Dtype::F8E5M2 => Kind::Untyped("float8_e5m2"),
            Dtype::F8E4M3 => Kind::Untyped("float8_e4m3fn"),
            Dtype::F8E5M2Fnuz => Kind::Untyped("float8_e5m2fnuz"),
            Dtype::F8E4M3Fnuz => Kind::Untyped("float8_e4m3fnuz"),
            Dtype::F8E8M0 => Kind::Untyped("float8_e8m0fnu"),
            Dtype::F4 => Kind::Untyped("float4_e2m1fn_x2"),
            _ => return None,
        })
    }
}

/// Whether [`StateDict::tensor`](super::StateDict::tensor) takes tensors of this dtype and shape.
///
/// Not those of 6-bit floats, which PyTorch lacks, of quantized dtypes, and of 4-bit floats whose
/// rows are no whole pairs.
#[must_use]
pub fn is_writable(dtype: Dtype, shape: &[usize]) -> bool {
    Kind::of(dtype).is_some() && torch_shape(dtype, shape).is_some()
}

/// Sizes and row-major strides as PyTorch counts them: 4-bit floats in pairs, and all numbers
/// below 2^63.
pub(super) fn torch_shape(dtype: Dtype, shape: &[usize]) -> Option<(Vec<u64>, Vec<u64>)> {
    let mut sizes: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    if dtype == Dtype::F4 {
        let last = sizes.last_mut().filter(|last| **last % 2 == 0)?;
        *last /= 2;
    }
    let mut stride = 1u64;
    let mut strides = vec![0; sizes.len()];
    for (&size, place) in sizes.iter().zip(&mut strides).rev() {
        *place = stride;
        stride = stride.checked_mul(size.max(1))?;
        if stride > i64::MAX as u64 {
            return None;
        }
    }
    Some((sizes, strides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_but_these_can_be_written() {
        let lacking: Vec<Dtype> = Dtype::ALL
            .iter()
            .copied()
            .filter(|&dtype| !is_writable(dtype, &[2]))
            .collect();
        let expected = [
            Dtype::QUInt2x4,
            Dtype::QUInt4x2,
            Dtype::F6E2M3,
            Dtype::F6E3M2,
            Dtype::QInt8,
            Dtype::QUInt8,
            Dtype::QInt32,
        ];
        assert_eq!(lacking, expected);
    }

    #[test]
    fn strides_are_those_of_pytorch() {
        let shape = |dtype, shape: &[usize]| torch_shape(dtype, shape);
        assert_eq!(
            shape(Dtype::F32, &[2, 3, 4]),
            Some((vec![2, 3, 4], vec![12, 4, 1]))
        );
        assert_eq!(
            shape(Dtype::F32, &[2, 0, 4]),
            Some((vec![2, 0, 4], vec![4, 4, 1]))
        );
        assert_eq!(shape(Dtype::F4, &[3, 8]), Some((vec![3, 4], vec![4, 1])));
        assert_eq!(shape(Dtype::F32, &[]), Some((vec![], vec![])));
        assert_eq!(shape(Dtype::F4, &[2, 3]), None);
        assert_eq!(shape(Dtype::F4, &[]), None);
        assert_eq!(shape(Dtype::U8, &[usize::MAX, 0]), None);
        assert_eq!(shape(Dtype::U8, &[1 << 62, 2, 0]), None);
    }
}
