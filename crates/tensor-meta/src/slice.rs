use std::ops::Range;

use crate::{Catalog, CatalogBuilder, CatalogError, Dtype, Entry, Layout, View};

/// A part of a tensor along one dimension: the share of a rank, or a range of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    dim: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Rank { rank: usize, world_size: usize },
    Range { start: usize, end: usize },
}

impl Slice {
    /// The share of dimension `dim`, counted from 0, that rank `rank` of `world_size` has.
    ///
    /// Shares differ by one at most; where the dimension does not divide evenly, the first ranks
    /// have one more.
    #[must_use]
    pub const fn rank(dim: usize, rank: usize, world_size: usize) -> Self {
        Self {
            dim,
            part: Part::Rank { rank, world_size },
        }
    }

    /// These indices of dimension `dim`, counted from 0: the queries of a fused matrix, the heads
    /// of a group.
    #[must_use]
    pub const fn range(dim: usize, indices: Range<usize>) -> Self {
        let Range { start, end } = indices;
        Self {
            dim,
            part: Part::Range { start, end },
        }
    }

    /// The dimension that is divided, counted from 0.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// The indices of the part along a dimension of this size.
    #[must_use]
    pub fn indices(&self, size: usize) -> Range<usize> {
        match self.part {
            Part::Range { start, end } => start.min(size)..end.min(size),
            Part::Rank { rank, world_size } => {
                let world_size = world_size.max(1);
                let (share, more) = (size / world_size, size % world_size);
                let start = |rank: usize| share.saturating_mul(rank) + rank.min(more);
                let rank = rank.min(world_size);
                start(rank).min(size)..start(rank + 1).min(size)
            }
        }
    }

    /// The layout of the share, and its first element; `None` for a dimension or indices that the
    /// layout does not have.
    fn of(&self, layout: &Layout) -> Option<(Layout, usize)> {
        let shape = layout.shape();
        let size = *shape.get(self.dim)?;
        if let Part::Range { start, end } = self.part
            && (start > end || end > size)
        {
            return None;
        }
        let range = self.indices(size);
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
    /// The same catalog with the parts of entries for which `slice` gives one.
    ///
    /// A part of the first dimension of a contiguous tensor is contiguous, and only its bytes
    /// are read; any other is a strided view.
    ///
    /// # Errors
    /// [`CatalogError::NoSlice`] if a tensor lacks the dimension or the indices, or its elements
    /// are smaller than a byte and the part would begin or end within one.
    pub fn sliced(&self, slice: impl Fn(&Entry) -> Option<Slice>) -> Result<Catalog, CatalogError> {
        self.divided(|entry| slice(entry).map(|slice| [(entry.name().to_owned(), slice)]))
    }

    /// The same catalog with several named parts in place of each entry for which `parts` returns
    /// some: a fused matrix as its queries, keys and values.
    ///
    /// # Errors
    /// As [`sliced`](Self::sliced), and [`CatalogError::DuplicateName`].
    pub fn divided<N: Into<Box<str>>, P: IntoIterator<Item = (N, Slice)>>(
        &self,
        parts: impl Fn(&Entry) -> Option<P>,
    ) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder::like(self);
        for entry in self.entries() {
            match parts(entry) {
                None => builder.copy(entry)?,
                Some(parts) => parts
                    .into_iter()
                    .try_for_each(|(name, slice)| builder.part(entry, name, slice))?,
            }
        }
        Ok(builder.finish())
    }

    /// A catalog of one of its entries alone, divided by the slices one after another.
    ///
    /// It takes no longer for a catalog of many entries.
    ///
    /// # Errors
    /// As [`sliced`](Self::sliced).
    ///
    /// # Panics
    /// If the entry is of another catalog.
    pub fn part(
        &self,
        entry: &Entry,
        slices: impl IntoIterator<Item = Slice>,
    ) -> Result<Catalog, CatalogError> {
        let mut builder = Catalog::builder();
        let record = builder.record(self.record(entry).clone())?;
        let view = View::at(record, entry.view().offset);
        builder.entry(entry.name(), entry.dtype(), entry.layout().clone(), view)?;
        builder.requires_grad(entry.requires_grad());
        let whole = builder.finish();
        slices
            .into_iter()
            .try_fold(whole, |part, slice| part.sliced(|_| Some(slice)))
    }
}

impl CatalogBuilder {
    /// Adds a part of an entry of the catalog that this one is [like](Self::like).
    fn part(
        &mut self,
        entry: &Entry,
        name: impl Into<Box<str>>,
        slice: Slice,
    ) -> Result<(), CatalogError> {
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
        self.entry(name, entry.dtype(), layout, view)?;
        self.requires_grad(entry.requires_grad());
        Ok(())
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
        let slice = Slice::rank(dim, rank, world);
        catalog.sliced(|_| Some(slice)).unwrap().entries()[0].clone()
    }

    #[test]
    fn shares_cover_the_dimension_once() {
        for (size, world) in [(10, 3), (2, 4), (0, 2), (7, 1)] {
            let ranges: Vec<_> = (0..world)
                .map(|rank| Slice::rank(0, rank, world).indices(size))
                .collect();
            let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
            assert_eq!(all, (0..size).collect::<Vec<_>>());
        }
        assert_eq!(Slice::rank(0, 1, 3).indices(10), 4..7);
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
    fn ranges_of_a_fused_matrix_are_tensors_of_their_own() {
        let catalog = catalog(&[10, 4], Dtype::F32);
        let parts = |_: &Entry| {
            let part = |name, indices| (name, Slice::range(0, indices));
            Some([part("q", 0..6), part("k", 6..8), part("v", 8..10)])
        };
        let divided = catalog.divided(parts).unwrap();
        let names: Vec<&str> = divided.entries().iter().map(Entry::name).collect();
        assert_eq!(names, ["q", "k", "v"]);
        let extent = divided.entries()[2].extent();
        assert_eq!((extent.offset, extent.len), (64 + 8 * 16, 2 * 16));
        assert_eq!(divided.entries()[1].shape(), [2, 4]);
        for beyond in [8..11, 11..11] {
            let part = |_: &Entry| Some(Slice::range(0, beyond.clone()));
            assert!(matches!(
                catalog.sliced(part),
                Err(CatalogError::NoSlice { .. })
            ));
        }
    }

    #[test]
    fn a_part_is_a_catalog_of_its_own() {
        let catalog = catalog(&[10, 4], Dtype::F32);
        let slices = [Slice::range(0, 2..5), Slice::range(1, 1..3)];
        let part = catalog.part(&catalog.entries()[0], slices).unwrap();
        let entry = &part.entries()[0];
        assert_eq!((part.len(), part.records().len()), (1, 1));
        assert_eq!(entry.shape(), [3, 2]);
        assert_eq!(entry.layout().strides(), Some(&[4, 1][..]));
        let (first, end) = ((2 * 4 + 1) * 4, (4 * 4 + 3) * 4);
        assert_eq!(
            entry.extent(),
            Extent::new(ShardId::FIRST, 64 + first, end - first)
        );
        let beyond = catalog.part(&catalog.entries()[0], [Slice::range(2, 0..1)]);
        assert!(matches!(beyond, Err(CatalogError::NoSlice { .. })));
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let refused = |catalog: &Catalog, dim| {
            let slice = Slice::rank(dim, 1, 2);
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
