//! Tensors one after another, with little memory beside the largest of them.
//!
//! Rule: what a view expands to is never in memory as a whole. Tensors are loaded as they lie in
//! the file, a batch at a time, and put into row-major order piece by piece.

use std::collections::HashSet;
use std::ops::Range;

use tensorlift::{Checkpoint, Dtype, Entry, Loaded, Loader, Result, Tensor};
use tensorlift_tensor_meta::{Layout, Source, View};

/// The most bytes of a batch of several tensors.
const BATCH_BYTES: u64 = 32 << 20;
/// The most bytes of a piece that had to be put in order.
const PIECE_BYTES: usize = 1 << 20;

/// Entries for which this is equal are one tensor.
pub(crate) fn identity(entry: &Entry) -> (View, Dtype, &Layout) {
    (entry.view(), entry.dtype(), entry.layout())
}

/// Whether an entry has bytes to load: those of PyTorch's meta device have none.
pub(crate) fn has_bytes(checkpoint: &Checkpoint, entry: &Entry) -> bool {
    let record = checkpoint.catalog().record(entry);
    !matches!(record.source, Source::Absent { .. })
}

/// Loads these entries of a checkpoint in their order, by loaders that `set_up` returns, and passes
/// each to `take` by position.
pub(crate) fn for_each_tensor(
    checkpoint: &Checkpoint,
    entries: &[&Entry],
    set_up: impl for<'l> Fn(Loader<'l>) -> Loader<'l>,
    mut take: impl FnMut(usize, &Tensor) -> Result<()>,
) -> Result<()> {
    for_each_batch(checkpoint, entries, set_up, |batch, loaded| {
        for position in batch {
            take(position, loaded.tensor(entries[position].name())?)?;
        }
        Ok(())
    })
}

/// Loads these entries of a checkpoint in their order, by loaders that `set_up` returns, and passes
/// each batch of neighbours to `take`, with their positions.
pub(crate) fn for_each_batch(
    checkpoint: &Checkpoint,
    entries: &[&Entry],
    set_up: impl for<'l> Fn(Loader<'l>) -> Loader<'l>,
    mut take: impl FnMut(Range<usize>, &Loaded) -> Result<()>,
) -> Result<()> {
    // A compressed record is unpacked whole.
    let needed = |entry: &&Entry| match checkpoint.catalog().record(entry).source {
        Source::Deflated { len, .. } => len,
        _ => entry.span_bytes(),
    };
    for batch in split(entries.iter().map(needed), BATCH_BYTES) {
        let names: HashSet<&str> = entries[batch.clone()]
            .iter()
            .map(|entry| entry.name())
            .collect();
        let wanted = |entry: &Entry| names.contains(entry.name());
        take(batch, &set_up(checkpoint.loader().select(wanted)).load()?)?;
    }
    Ok(())
}

/// Neighbours of which at most `most` bytes are in memory together; one that is larger is alone.
pub(crate) fn split(bytes_of: impl Iterator<Item = u64>, most: u64) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0u64;
    for (position, needed) in bytes_of.enumerate() {
        bytes = bytes.saturating_add(needed);
        match batches.last_mut() {
            Some(batch) if bytes <= most => batch.end = position + 1,
            _ => {
                batches.push(position..position + 1);
                bytes = needed;
            }
        }
    }
    batches
}

/// Passes the row-major bytes of a tensor to `take`, in pieces.
pub(crate) fn row_major(tensor: &Tensor, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let bytes = tensor.as_bytes()?;
    let (Some(strides), Some(element)) = (tensor.strides(), tensor.dtype().byte_len()) else {
        // Strided parts of bytes are refused by the same words as anywhere else.
        return take(tensor.to_contiguous()?.as_bytes()?);
    };
    let rows = Rows {
        bytes,
        shape: tensor.shape(),
        strides,
    };
    match element {
        1 => rows.gather::<1>(take),
        2 => rows.gather::<2>(take),
        4 => rows.gather::<4>(take),
        8 => rows.gather::<8>(take),
        // The widest there is: two numbers of 8 bytes.
        _ => rows.gather::<16>(take),
    }
}

/// Strided elements in host memory.
struct Rows<'a> {
    bytes: &'a [u8],
    shape: &'a [usize],
    strides: &'a [usize],
}

impl Rows<'_> {
    /// Puts elements of `N` bytes in order.
    fn gather<const N: usize>(self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // The last dimension is the inner loop; a counter of the others walks the rows.
        let (Some((&width, outer)), Some((&step, outer_strides))) =
            (self.shape.split_last(), self.strides.split_last())
        else {
            return take(self.bytes);
        };
        if self.shape.contains(&0) {
            return Ok(());
        }
        let mut piece = vec![0; PIECE_BYTES];
        let mut filled = 0;
        let mut row = vec![0; outer.len()];
        let mut start = 0;
        loop {
            let mut done = 0;
            while done < width {
                let count = ((PIECE_BYTES - filled) / N).min(width - done);
                let to = &mut piece[filled..filled + count * N];
                self.copy::<N>(start + done * step, step, to);
                done += count;
                filled += count * N;
                if filled + N > PIECE_BYTES {
                    take(&piece[..filled])?;
                    filled = 0;
                }
            }
            let mut dimension = outer.len();
            loop {
                let Some(next) = dimension.checked_sub(1) else {
                    return match filled {
                        0 => Ok(()),
                        _ => take(&piece[..filled]),
                    };
                };
                dimension = next;
                row[dimension] += 1;
                start += outer_strides[dimension];
                if row[dimension] < outer[dimension] {
                    break;
                }
                start -= outer_strides[dimension] * outer[dimension];
                row[dimension] = 0;
            }
        }
    }

    /// Copies elements of one row, from the one at `first` on.
    fn copy<const N: usize>(&self, first: usize, step: usize, to: &mut [u8]) {
        let from = &self.bytes[first * N..];
        match step {
            0 => to
                .chunks_exact_mut(N)
                .for_each(|to| to.copy_from_slice(&from[..N])),
            1 => to.copy_from_slice(&from[..to.len()]),
            _ => {
                let elements = from.chunks_exact(N).step_by(step);
                for (to, from) in to.chunks_exact_mut(N).zip(elements) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tensorlift_fixture_kit::{CheckpointSpec, Format, StorageView};

    use super::*;

    fn spec() -> CheckpointSpec {
        let view = |offset: usize, strides: &[usize]| StorageView {
            storage: 0,
            offset,
            strides: strides.to_vec(),
            conjugated: false,
            negated: false,
        };
        // Pieces end within rows, between them, and within the only row.
        CheckpointSpec::new(Format::torch_zip())
            .storage(Dtype::I16, 1 << 20)
            .view("plain", [1 << 20], view(0, &[1]))
            .view("transposed", [1 << 10, 1 << 10], view(0, &[1, 1 << 10]))
            .view("odd", [7, 3, 99_999], view(1, &[0, 5, 7]))
            .view("spread", [3_000_000], view(5, &[0]))
            .view("empty", [3, 0], view(0, &[1, 7]))
            .view("scalar", [], view(9, &[]))
    }

    #[test]
    fn pieces_are_the_bytes_in_row_major_order() {
        let spec = spec();
        let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
        let entries: Vec<&Entry> = checkpoint.catalog().entries().iter().collect();
        let mut found = Vec::new();
        for_each_tensor(
            &checkpoint,
            &entries,
            |loader| loader,
            |position, tensor| {
                assert_eq!(tensor.name(), entries[position].name());
                let mut bytes = Vec::new();
                row_major(tensor, |piece| {
                    assert!(tensor.is_contiguous() || piece.len() <= PIECE_BYTES);
                    bytes.extend_from_slice(piece);
                    Ok(())
                })?;
                found.push((tensor.name().to_owned(), bytes));
                Ok(())
            },
        )
        .unwrap();
        let expected = spec.expected().into_iter();
        let expected: Vec<_> = expected.map(|tensor| (tensor.name, tensor.bytes)).collect();
        assert!(found == expected);
    }
}
