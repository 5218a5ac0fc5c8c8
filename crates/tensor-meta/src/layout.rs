use std::borrow::Cow;

use smallvec::SmallVec;
use thiserror::Error;

use crate::Dtype;

/// The order of the bytes within an element, as they lie in the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ByteOrder {
    /// Least significant byte first; required by safetensors, and the order of nearly every file.
    #[default]
    Little,
    /// Most significant byte first; PyTorch archives written on such machines.
    Big,
}

/// How a tensor's elements lie in its bytes: shape, strides, byte order, lazy bits.
///
/// Shapes and strides count elements. A layout is checked when it is made, so its accessors
/// cannot fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    shape: Shape,
    /// Boxed, and absent by default, since nearly all layouts are plain and there is one for each
    /// tensor.
    special: Option<Box<Special>>,
}

/// Shapes of one or two dimensions, as nearly all weights have, need no allocation of their own,
/// in no more room than a pointer and a length take.
type Shape = SmallVec<[usize; 2]>;

/// The properties beyond row-major little-endian values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Special {
    /// Absent for row-major contiguous layouts.
    strides: Option<Box<[usize]>>,
    byte_order: ByteOrder,
    conjugated: bool,
    negated: bool,
}

/// An impossible shape or stride.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The element count does not fit into memory addresses.
    #[error("shape {shape:?} has more elements than an address can count")]
    ShapeOverflow {
        /// The declared shape.
        shape: Vec<usize>,
    },
    /// Shape and strides differ in length.
    #[error("shape {shape:?} has {} dimensions, but there are {} strides", shape.len(), strides.len())]
    StrideCount {
        /// The declared shape.
        shape: Vec<usize>,
        /// The declared strides.
        strides: Vec<usize>,
    },
    /// The last element lies further out than an address can count.
    #[error("strides {strides:?} over shape {shape:?} reach further than an address can count")]
    StrideOverflow {
        /// The declared shape.
        shape: Vec<usize>,
        /// The declared strides.
        strides: Vec<usize>,
    },
}

/// # Making layouts
impl Layout {
    /// A row-major contiguous layout.
    ///
    /// # Errors
    /// [`LayoutError::ShapeOverflow`]. A shape with a zero in it has no elements, however large
    /// its other dimensions are.
    pub fn contiguous(shape: impl AsRef<[usize]>) -> Result<Self, LayoutError> {
        let shape = shape.as_ref();
        if count(shape).is_none() {
            let shape = shape.to_vec();
            return Err(LayoutError::ShapeOverflow { shape });
        }
        Ok(Self {
            shape: Shape::from_slice(shape),
            special: None,
        })
    }

    /// A layout with a stride for every dimension, in elements.
    ///
    /// Strides that amount to the row-major order are dropped, so that
    /// [`is_contiguous`](Self::is_contiguous) sees through dimensions of size 1.
    ///
    /// # Errors
    /// As for [`contiguous`](Self::contiguous), and for strides that do not match the shape or
    /// reach past what an address can count.
    pub fn strided(
        shape: impl AsRef<[usize]>,
        strides: impl AsRef<[usize]>,
    ) -> Result<Self, LayoutError> {
        let layout = Self::contiguous(shape)?;
        let strides = strides.as_ref();
        let (shape, strides_vec) = (&layout.shape, || strides.to_vec());
        if shape.len() != strides.len() {
            return Err(LayoutError::StrideCount {
                shape: shape.to_vec(),
                strides: strides_vec(),
            });
        }
        if is_row_major(shape, strides) || layout.elements() == 0 {
            return Ok(layout);
        }
        if reach(shape, strides).is_none() {
            return Err(LayoutError::StrideOverflow {
                shape: shape.to_vec(),
                strides: strides_vec(),
            });
        }
        Ok(layout.with(|special| special.strides = Some(strides.into())))
    }

    fn with(mut self, change: impl FnOnce(&mut Special)) -> Self {
        let mut special = self.special.take().unwrap_or_default();
        change(&mut special);
        // Equal layouts are equal in form.
        self.special = (*special != Special::default()).then_some(special);
        self
    }

    /// The same layout over bytes of this order.
    #[must_use]
    pub fn with_byte_order(self, byte_order: ByteOrder) -> Self {
        if self.byte_order() == byte_order {
            return self;
        }
        self.with(|special| special.byte_order = byte_order)
    }

    /// The same layout whose values are the complex conjugates of the stored ones (PyTorch's
    /// lazy conjugate bit).
    #[must_use]
    pub fn with_conjugated(self, conjugated: bool) -> Self {
        if self.is_conjugated() == conjugated {
            return self;
        }
        self.with(|special| special.conjugated = conjugated)
    }

    /// The same layout whose values are the negatives of the stored ones (PyTorch's lazy
    /// negative bit).
    #[must_use]
    pub fn with_negated(self, negated: bool) -> Self {
        if self.is_negated() == negated {
            return self;
        }
        self.with(|special| special.negated = negated)
    }
}

/// # Reading layouts
impl Layout {
    /// The size of each dimension, in elements; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The distance between neighbours in each dimension, in elements, or `None` for row-major
    /// contiguous tensors.
    #[must_use]
    pub fn strides(&self) -> Option<&[usize]> {
        self.special.as_ref()?.strides.as_deref()
    }

    /// The distance between neighbours in each dimension, in elements, whether or not it is that of
    /// the row-major order.
    #[must_use]
    pub fn element_strides(&self) -> Cow<'_, [usize]> {
        match self.strides() {
            Some(strides) => Cow::Borrowed(strides),
            None => Cow::Owned(row_major(&self.shape)),
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        // Checked when it was made.
        count(&self.shape).unwrap_or(usize::MAX)
    }

    /// Whether the elements lie in row-major order without gaps.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.strides().is_none()
    }

    /// The order of the bytes within an element in the shard.
    #[must_use]
    pub fn byte_order(&self) -> ByteOrder {
        self.special
            .as_ref()
            .map_or(ByteOrder::Little, |special| special.byte_order)
    }

    /// Whether the values are the conjugates of the stored ones.
    #[must_use]
    pub fn is_conjugated(&self) -> bool {
        self.special
            .as_ref()
            .is_some_and(|special| special.conjugated)
    }

    /// Whether the values are the negatives of the stored ones.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.negated)
    }

    /// Whether the bytes in the shard are the values themselves, with nothing to resolve.
    #[must_use]
    pub fn is_plain(&self, dtype: Dtype) -> bool {
        let swapped = self.byte_order() == ByteOrder::Big && dtype.word_bytes() > 1;
        !swapped && !self.is_conjugated() && !self.is_negated()
    }

    /// The bytes of all elements in row-major order without gaps, or `None` where packed elements
    /// do not fill whole bytes or the count overflows.
    #[must_use]
    pub fn contiguous_bytes(&self, dtype: Dtype) -> Option<u64> {
        whole_bytes(self.elements() as u64, dtype)
    }

    /// The bytes from the first to the last element as they lie in the shard, or `None` as for
    /// [`contiguous_bytes`](Self::contiguous_bytes).
    #[must_use]
    pub fn span_bytes(&self, dtype: Dtype) -> Option<u64> {
        match self.strides() {
            None => self.contiguous_bytes(dtype),
            Some(strides) => whole_bytes(reach(&self.shape, strides)? as u64 + 1, dtype),
        }
    }
}

/// The product of all dimensions; 0 as soon as one of them is.
#[inline]
fn count(shape: &[usize]) -> Option<usize> {
    let (mut product, mut overflows, mut is_empty) = (1usize, false, false);
    for &size in shape {
        let (next, overflow) = product.overflowing_mul(size);
        (product, overflows, is_empty) = (next, overflows | overflow, is_empty | (size == 0));
    }
    match (is_empty, overflows) {
        (true, _) => Some(0),
        (false, false) => Some(product),
        (false, true) => None,
    }
}

/// The distance of the last element from the first, for shapes without a zero.
///
/// At most one below the highest count, so that adding 1 cannot overflow.
fn reach(shape: &[usize], strides: &[usize]) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .try_fold(0usize, |sum, (&size, &stride)| {
            sum.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        })
        .filter(|&last| last < usize::MAX)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim].saturating_mul(shape[dim]);
    }
    strides
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}

fn whole_bytes(elements: u64, dtype: Dtype) -> Option<u64> {
    let bits = elements.checked_mul(dtype.bits())?;
    (bits % 8 == 0).then_some(bits / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_major_strides_are_seen_through() {
        let layout = Layout::strided([2, 1, 3], [3, 77, 1]).unwrap();
        assert!(layout.is_contiguous());
        let transposed = Layout::strided([3, 2], [1, 3]).unwrap();
        assert_eq!(transposed.strides(), Some(&[1, 3][..]));
        assert_eq!(*transposed.element_strides(), [1, 3]);
        assert_eq!(*layout.element_strides(), [3, 3, 1]);
        assert_eq!(transposed.span_bytes(Dtype::F32), Some(24));
    }

    #[test]
    fn stride_zero_spans_one_element() {
        let layout = Layout::strided([1 << 40], [0]).unwrap();
        assert_eq!(layout.span_bytes(Dtype::F32), Some(4));
        assert_eq!(layout.contiguous_bytes(Dtype::F32), Some(1 << 42));
    }

    #[test]
    fn overflow_is_an_error_unless_there_is_nothing() {
        assert!(Layout::contiguous([usize::MAX, 2]).is_err());
        assert_eq!(
            Layout::contiguous([usize::MAX, 2, 0]).unwrap().elements(),
            0
        );
        assert!(Layout::strided([2, 2], [usize::MAX, 1]).is_err());
        assert!(Layout::strided([2, 2], [1]).is_err());
    }

    #[test]
    fn packed_elements_fill_whole_bytes() {
        assert_eq!(
            Layout::contiguous([3]).unwrap().contiguous_bytes(Dtype::F4),
            None
        );
        assert_eq!(
            Layout::contiguous([4])
                .unwrap()
                .contiguous_bytes(Dtype::F6E2M3),
            Some(3)
        );
    }

    #[test]
    fn one_byte_elements_have_no_byte_order() {
        let layout = Layout::contiguous([4])
            .unwrap()
            .with_byte_order(ByteOrder::Big);
        assert!(layout.is_plain(Dtype::U8));
        assert!(!layout.is_plain(Dtype::U16));
    }
}
