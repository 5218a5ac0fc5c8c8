//! The elements of views and their byte order.

use tensorlift_tensor_meta::{Dtype, Layout};

use crate::{StorageView, oracle};

/// The row-major bytes of a view of `storage`.
pub(crate) fn gather(storage: &[u8], dtype: Dtype, shape: &[usize], view: &StorageView) -> Vec<u8> {
    let layout = Layout::strided(shape, &view.strides[..]).expect("a view within its storage");
    let layout = layout
        .with_conjugated(view.conjugated)
        .with_negated(view.negated);
    let width = dtype.byte_len().expect("views have whole-byte elements");
    oracle::row_major(&storage[view.offset * width..], dtype, &layout)
}

/// Turns little-endian words into big-endian ones, or back.
pub(crate) fn swap(bytes: &mut [u8], dtype: Dtype) {
    let word = dtype.word_bytes();
    if word > 1 {
        bytes.chunks_exact_mut(word).for_each(<[u8]>::reverse);
    }
}

/// The strides of the row-major order.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for dimension in (1..shape.len()).rev() {
        // As PyTorch counts: a dimension of size 0 moves like one of size 1.
        strides[dimension - 1] = strides[dimension] * shape[dimension].max(1);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, strides: &[usize]) -> StorageView {
        StorageView::new(0, offset, strides.to_vec())
    }

    #[test]
    fn transposed_expanded_and_shifted() {
        let storage: Vec<u8> = (0..6).collect();
        let bytes = |shape: &[usize], view| gather(&storage, Dtype::U8, shape, &view);
        assert_eq!(bytes(&[3, 2], view(0, &[1, 3])), [0, 3, 1, 4, 2, 5]);
        assert_eq!(bytes(&[2, 2], view(4, &[0, 1])), [4, 5, 4, 5]);
        assert_eq!(bytes(&[], view(5, &[])), [5]);
        assert_eq!(bytes(&[2, 0], view(5, &[1, 1])), [0; 0]);
    }

    #[test]
    fn conjugates_flip_the_imaginary_sign_only() {
        let mut storage = Vec::new();
        for value in [1.5f32, 2.5] {
            storage.extend_from_slice(&value.to_le_bytes());
        }
        let mut conjugated = view(0, &[1]);
        conjugated.conjugated = true;
        let bytes = gather(&storage, Dtype::C64, &[1], &conjugated);
        assert_eq!(bytes[..4], 1.5f32.to_le_bytes());
        assert_eq!(bytes[4..], (-2.5f32).to_le_bytes());
    }

    #[test]
    fn complex_words_are_swapped_by_halves() {
        let mut bytes: Vec<u8> = (0..8).collect();
        swap(&mut bytes, Dtype::C64);
        assert_eq!(bytes, [3, 2, 1, 0, 7, 6, 5, 4]);
    }

    #[test]
    fn row_major_strides_are_those_of_pytorch() {
        assert_eq!(row_major(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(row_major(&[0, 3]), [3, 1]);
        assert_eq!(row_major(&[3, 0]), [1, 1]);
        assert!(row_major(&[]).is_empty());
    }
}
