use std::ops::Range;

use crate::{Catalog, CatalogBuilder, CatalogError, Dtype, Entry, Layout, View};

/// The part of a tensor that one rank of several holds: its share of one dimension.
///
/// Shares differ by one at most; where the dimension does not divide evenly, the first ranks have
/// one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The dimension that is divided, counted from 0.
    pub dim: usize,
    /// The rank whose share it is, below `world`.
    pub rank: usize,
    /// The number of ranks, at least 1.
    pub world: usize,
}

impl Slice {
    /// The indices of the share along a dimension of this size.
    #[must_use]
    pub fn range(&self, size: usize) -> Range<usize> {
        let world = self.world.max(1);
        let (share, more) = (size / world, size % world);
        let start = |rank: usize| share.saturating_mul(rank) + rank.min(more);
        let rank = self.rank.min(world);
        start(rank).min(size)..start(rank + 1).min(size)
    }

    /// The layout of the share, and where it begins, in elements; `None` for a dimension that the
    /// layout does not have.
    fn of(&self, layout: &Layout) -> Option<(Layout, usize)> {
        let shape = layout.shape();
        let range = self.range(*shape.get(self.dim)?);
        let strides = layout.element_strides();
        let start = range.start.checked_mul(strides[self.dim])?;
        let mut shape = shape.to_vec();
        shape[self.dim] = range.len();
        let share = Layout::strided(shape, &*strides).ok()?;
        let share = share
            .with_byte_order(layout.byte_order())
            .with_conjugated(layout.is_conjugated())
            .with_negated(layout.is_negated());
        Some((share, if share_is_empty(&range) { 0 } else { start }))
    }
}

impl Catalog {
    /// The same catalog with the shares of entries for which `slice` gives one.
    ///
    /// A share of the first dimension of a contiguous tensor is contiguous, and only its bytes
    /// are read; any other is a strided view, read from its first to its last element.
    ///
    /// # Errors
    /// [`CatalogError::NoSlice`] if a tensor lacks the dimension, or its elements are smaller than
    /// a byte and the share would begin or end within one.
    pub fn sliced(&self, slice: impl Fn(&Entry) -> Option<Slice>) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder::like(self);
        for entry in self.entries() {
            let Some(slice) = slice(entry) else {
                builder.copy(entry)?;
                continue;
            };
            let refused = || CatalogError::NoSlice {
                name: entry.name().to_owned(),
                shape: entry.shape().to_vec(),
                dim: slice.dim,
            };
            let (layout, start) = slice.of(entry.layout()).ok_or_else(refused)?;
            let bits = (start as u64).checked_mul(entry.dtype().bits());
            let bytes = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
            let bytes = bytes.filter(|_| lies_on_bytes(&layout, entry.dtype()));
            let View { record, offset } = entry.view();
            let view = View::at(record, offset + bytes.ok_or_else(refused)?);
            builder.entry(entry.name(), entry.dtype(), layout, view)?;
            builder.requires_grad(entry.requires_grad());
        }
        Ok(builder.finish())
    }
}

/// Whether every run of elements that lie side by side begins and ends with a whole byte.
fn lies_on_bytes(layout: &Layout, dtype: Dtype) -> bool {
    let (bits, elements) = (dtype.bits(), layout.elements());
    if bits.is_multiple_of(8) || elements == 0 {
        return true;
    }
    let strides = layout.element_strides();
    let (mut run, mut is_whole) = (1usize, true);
    for (&count, &stride) in layout.shape().iter().zip(&*strides).rev() {
        if count == 1 {
            continue;
        }
        // Dimensions beyond the run repeat it.
        match is_whole && stride == run {
            true => run = run.saturating_mul(count),
            false => is_whole &= (stride as u64).wrapping_mul(bits).is_multiple_of(8),
        }
    }
    is_whole && (run as u64).wrapping_mul(bits).is_multiple_of(8)
}

fn share_is_empty(range: &Range<usize>) -> bool {
    range.start >= range.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Extent, Record, ShardId};

    fn catalog(shape: &[usize], dtype: Dtype) -> Catalog {
        let mut builder = Catalog::builder();
        let layout = Layout::contiguous(shape).unwrap();
        let extent = Extent::new(ShardId::FIRST, 64, layout.span_bytes(dtype).unwrap());
        let record = builder.record(Record::stored(extent)).unwrap();
        builder
            .entry("t", dtype, layout, View::whole(record))
            .unwrap();
        builder.finish()
    }

    fn share(catalog: &Catalog, dim: usize, rank: usize, world: usize) -> Entry {
        let slice = Slice { dim, rank, world };
        catalog.sliced(|_| Some(slice)).unwrap().entries()[0].clone()
    }

    #[test]
    fn shares_cover_the_dimension_once() {
        for (size, world) in [(10, 3), (2, 4), (0, 2), (7, 1)] {
            let ranges: Vec<_> = (0..world)
                .map(|rank| {
                    Slice {
                        dim: 0,
                        rank,
                        world,
                    }
                    .range(size)
                })
                .collect();
            let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
            assert_eq!(all, (0..size).collect::<Vec<_>>());
        }
        assert_eq!(
            Slice {
                dim: 0,
                rank: 1,
                world: 3
            }
            .range(10),
            4..7
        );
    }

    #[test]
    fn a_share_of_rows_reads_its_rows_alone() {
        let catalog = catalog(&[10, 4], Dtype::F32);
        let entry = share(&catalog, 0, 1, 3);
        assert_eq!(
            (entry.shape(), entry.layout().is_contiguous()),
            (&[3, 4][..], true)
        );
        assert_eq!(
            entry.extent(),
            Extent::new(ShardId::FIRST, 64 + 4 * 16, 3 * 16)
        );
    }

    #[test]
    fn a_share_of_columns_is_a_view() {
        let catalog = catalog(&[3, 10], Dtype::F32);
        let entry = share(&catalog, 1, 2, 3);
        assert_eq!(entry.layout().strides(), Some(&[10, 1][..]));
        assert_eq!(
            (entry.shape(), entry.extent().offset),
            (&[3, 3][..], 64 + 7 * 4)
        );
    }

    #[test]
    fn columns_of_packed_elements_divide_on_whole_bytes() {
        for (shape, dim, dtype, offset) in [
            (&[3, 4][..], 1, Dtype::F4, 1),
            (&[2, 4, 3], 1, Dtype::F4, 3),
            (&[3, 8], 1, Dtype::F6E2M3, 3),
            (&[1, 4], 1, Dtype::F4, 1),
        ] {
            let entry = share(&catalog(shape, dtype), dim, 1, 2);
            assert_eq!(entry.shape()[dim], shape[dim] / 2);
            assert_eq!(entry.extent().offset, 64 + offset, "{shape:?} {dtype}");
        }
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let refused = |catalog: &Catalog, dim| {
            let slice = Slice {
                dim,
                rank: 1,
                world: 2,
            };
            matches!(
                catalog.sliced(|_| Some(slice)),
                Err(CatalogError::NoSlice { .. })
            )
        };
        assert!(refused(&catalog(&[4], Dtype::F32), 1));
        assert!(refused(&catalog(&[3, 6], Dtype::F4), 1));
        assert!(refused(&catalog(&[4, 3], Dtype::F4), 1));
        assert!(refused(&catalog(&[2, 8], Dtype::F6E2M3), 2));
        assert!(!refused(&catalog(&[4, 4], Dtype::F4), 0));
        assert_eq!(
            share(&catalog(&[1, 4], Dtype::F32), 0, 1, 2).shape(),
            [0, 4]
        );
    }
}
