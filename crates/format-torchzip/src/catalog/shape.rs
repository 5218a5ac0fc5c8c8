//! Dimensions in elements of our dtypes, which may be narrower than PyTorch's.

use tensorlift_tensor_meta::{Dtype, Layout};

use crate::pickle::globals::TorchDtype;
use crate::tensors::objects::Sizes;

pub(super) type InElements = (Dtype, Sizes, Option<Sizes>);

/// Shape and strides in elements of our dtype, which may be half as wide as PyTorch's.
pub(super) fn in_elements(dtype: TorchDtype, shape: Sizes, strides: Option<Sizes>) -> InElements {
    match dtype {
        TorchDtype::Same(dtype) => match in_padded_rows(dtype, &shape, strides.as_deref()) {
            Some(rows) => (Dtype::U8, rows, None),
            None => (dtype, shape, strides),
        },
        TorchDtype::F4Pair => match in_pairs(&shape, strides.as_deref()) {
            Some((shape, strides)) => (Dtype::F4, shape, strides),
            None => (Dtype::U8, shape, strides),
        },
    }
}

/// The dimensions in bytes of packed elements whose rows are filled up to whole bytes.
///
/// `None` where every row fills its bytes, so that the elements can be told apart by their
/// dtype alone.
fn in_padded_rows(dtype: Dtype, shape: &[usize], strides: Option<&[usize]>) -> Option<Sizes> {
    if dtype.bits() >= 8 {
        return None;
    }
    let per_byte = (8 / dtype.bits()) as usize;
    let (&size, rest) = shape.split_last()?;
    let layout = Layout::strided(shape, strides?).ok()?;
    (size % per_byte != 0 && layout.is_contiguous()).then(|| {
        rest.iter()
            .copied()
            .chain([size.div_ceil(per_byte)])
            .collect()
    })
}

/// The dimensions of packed pairs: along the last one, as safetensors has it.
///
/// `None` where there is none, or where pairs do not lie side by side along it.
fn in_pairs(shape: &[usize], strides: Option<&[usize]>) -> Option<(Sizes, Option<Sizes>)> {
    let doubled = |values: &[usize]| -> Option<Sizes> {
        values.iter().map(|value| value.checked_mul(2)).collect()
    };
    let (&size, rest) = shape.split_last()?;
    let wide = rest.iter().copied().chain([size.checked_mul(2)?]).collect();
    let strides = match strides.map(<[usize]>::split_last) {
        None => None,
        Some(None) => return None,
        Some(Some((&last, rest))) => {
            if last != 1 && size > 1 {
                return None;
            }
            let mut strides = doubled(rest)?;
            strides.push(1);
            Some(strides)
        }
    };
    Some((wide, strides))
}

pub(super) fn byte_offset(dtype: TorchDtype, elements: u64) -> Option<u64> {
    match dtype {
        TorchDtype::F4Pair => Some(elements),
        TorchDtype::Same(dtype) => {
            let bits = elements.checked_mul(dtype.bits())?;
            (bits % 8 == 0).then_some(bits / 8)
        }
    }
}
