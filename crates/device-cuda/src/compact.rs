//! A strided layout as rows that can be copied one after another.

use tensorlift_tensor_meta::{Dtype, Layout};

use crate::driver::Rows;

/// The rows of a tensor whose first element is at byte `start`, in row-major order; `None` if its
/// elements share bytes.
///
/// The share of one dimension of a contiguous tensor is one set of rows.
pub(crate) fn rows(start: usize, dtype: Dtype, layout: &Layout) -> Option<Vec<Rows>> {
    let element = dtype.byte_len()?;
    if layout.elements() == 0 {
        return Some(Vec::new());
    }
    let mut dims = dims(layout, element);
    let width = match dims.pop_if(|(_, stride)| *stride == element) {
        Some((count, _)) => count * element,
        None => element,
    };
    // Rows that overlap, as broadcast ones do, are copied one by one.
    let regular = dims.pop_if(|(_, pitch)| *pitch >= width);
    let (height, pitch) = regular.unwrap_or((1, width));
    let copies: usize = dims.iter().map(|(count, _)| count).product();
    let copy = |number: usize| {
        let (mut from, mut rest) = (start, number);
        for (count, stride) in dims.iter().rev() {
            from += rest % count * stride;
            rest /= count;
        }
        Rows {
            from,
            pitch,
            to: number * width * height,
            width,
            height,
        }
    };
    Some((0..copies).map(copy).collect())
}

/// Counts and strides in bytes, outermost first; dimensions that are walked as one are one.
fn dims(layout: &Layout, element: usize) -> Vec<(usize, usize)> {
    let mut dims: Vec<(usize, usize)> = Vec::new();
    for (&count, stride) in layout.shape().iter().zip(&*layout.element_strides()) {
        let stride = stride * element;
        match dims.last_mut() {
            _ if count == 1 => {}
            Some(outer) if outer.1 == stride * count => *outer = (outer.0 * count, stride),
            _ => dims.push((count, stride)),
        }
    }
    dims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: &[usize], strides: &[usize]) -> Vec<Rows> {
        let layout = Layout::strided(shape, strides).unwrap();
        rows(6, Dtype::BF16, &layout).unwrap()
    }

    #[test]
    fn a_share_of_one_dimension_is_one_set_of_rows() {
        let share = Rows {
            from: 6,
            pitch: 2 * 70,
            to: 0,
            width: 2 * 20,
            height: 12,
        };
        // [3, 4, 7, 10], of which dimension 2 is cut to 2.
        assert_eq!(of(&[3, 4, 2, 10], &[280, 70, 10, 1]), [share]);
    }

    #[test]
    fn transposed_and_broadcast_tensors_take_more() {
        let transposed = of(&[3, 4], &[1, 3]);
        assert_eq!(transposed.len(), 3);
        assert_eq!((transposed[1].from, transposed[1].to), (6 + 2, 8));
        let broadcast = of(&[5, 4], &[0, 1]);
        assert_eq!(broadcast.len(), 5);
        assert_eq!((broadcast[4].from, broadcast[4].to), (6, 4 * 8));
    }

    #[test]
    fn nothing_is_no_rows_and_packed_elements_are_refused() {
        assert_eq!(of(&[3, 0], &[1, 1]), []);
        let packed = Layout::contiguous([4]).unwrap();
        assert_eq!(rows(0, Dtype::F4, &packed), None);
    }
}
