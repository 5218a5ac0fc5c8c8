use serde::Serialize;
use tensorlift_tensor_meta::{Dtype, Layout};

/// Which bytes of a source arrive, in row-major order: the share of a rank, a strided view, or a
/// part of a decoded record.
///
/// Runs of bytes that repeat along dimensions, as elements do in a strided layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Selection {
    /// The first byte of the first run, counted from the beginning of the source.
    pub start: u64,
    /// The length of a run in bytes.
    pub run_bytes: u64,
    /// How the runs repeat, outermost dimension first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<Repeat>,
}

/// One dimension of a [`Selection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Repeat {
    /// How often it repeats what is inside it.
    pub count: u64,
    /// The distance between two of these, in bytes.
    pub stride_bytes: u64,
}

impl Selection {
    /// One run of bytes.
    pub(super) const fn run(start: u64, run_bytes: u64) -> Self {
        Self {
            start,
            run_bytes,
            dims: Vec::new(),
        }
    }

    /// The elements of a layout whose first element is at byte `start`; `None` where elements
    /// smaller than a byte do not lie on whole bytes.
    pub(crate) fn of(layout: &Layout, dtype: Dtype, start: u64) -> Option<Self> {
        if layout.elements() == 0 {
            return Some(Self::run(start, 0));
        }
        let (mut run_bits, mut dims) = (dtype.bits(), Vec::new());
        let strides = layout.element_strides();
        for (&count, &stride) in layout.shape().iter().zip(&*strides).rev() {
            if count == 1 {
                continue;
            }
            let count = count as u64;
            let stride_bits = (stride as u64).checked_mul(dtype.bits())?;
            match dims.last_mut() {
                None if stride_bits == run_bits => run_bits *= count,
                _ if stride_bits % 8 != 0 => return None,
                // Two dimensions that step evenly are one.
                Some(Repeat {
                    count: inner,
                    stride_bytes,
                }) if stride_bits / 8 == *stride_bytes * *inner => *inner *= count,
                _ => dims.push(Repeat {
                    count,
                    stride_bytes: stride_bits / 8,
                }),
            }
        }
        dims.reverse();
        run_bits.is_multiple_of(8).then_some(Self {
            start,
            run_bytes: run_bits / 8,
            dims,
        })
    }

    /// The same selection as several, one after another, wherever more than `max_gap` unwanted
    /// bytes lie between what an outer dimension repeats.
    pub(super) fn pieces(&self, max_gap: u64) -> Vec<Self> {
        let mut pieces = vec![self.clone()];
        while let Some(&Repeat {
            count,
            stride_bytes,
        }) = pieces[0].dims.first()
        {
            let inner = span_bytes(&pieces[0].dims[1..], self.run_bytes);
            if !self.is_ordered() || stride_bytes - inner <= max_gap {
                break;
            }
            let split = |piece: &Self| {
                let dims = piece.dims[1..].to_vec();
                let start = piece.start;
                (0..count).map(move |index| Self {
                    start: start + index * stride_bytes,
                    run_bytes: self.run_bytes,
                    dims: dims.clone(),
                })
            };
            pieces = pieces.iter().flat_map(split).collect();
        }
        pieces
    }

    /// The same selection as up to `parts` of about the same length, one after another.
    pub(crate) fn split(&self, parts: usize) -> Vec<Self> {
        let Some((&outer, inner)) = self.dims.split_first() else {
            return vec![self.clone()];
        };
        let step = outer.count.div_ceil(parts.max(1) as u64);
        let firsts = (0..outer.count).step_by(step as usize);
        let part = |first: u64| {
            let count = step.min(outer.count - first);
            let mut dims = vec![Repeat { count, ..outer }];
            dims.extend_from_slice(inner);
            Self {
                start: self.start + first * outer.stride_bytes,
                run_bytes: self.run_bytes,
                dims,
            }
        };
        firsts.map(part).collect()
    }

    /// The bytes from the first one that arrives to the last one.
    pub(crate) fn span_bytes(&self) -> u64 {
        span_bytes(&self.dims, self.run_bytes)
    }

    /// The bytes that arrive.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        byte_len(&self.dims, self.run_bytes)
    }

    /// Whether the runs lie in the source in the order in which they arrive, none overlapping:
    /// only then can the source be cut into chunks.
    pub(crate) fn is_ordered(&self) -> bool {
        let mut span = self.run_bytes;
        self.dims.iter().rev().all(|dim| {
            let ordered = dim.stride_bytes >= span;
            span += (dim.count - 1) * dim.stride_bytes;
            ordered
        })
    }

    /// How many of the bytes that arrive lie before byte `at` of the source, if it is ordered.
    pub(crate) fn bytes_before(&self, at: u64) -> u64 {
        let mut at = at.saturating_sub(self.start);
        let mut before = 0;
        for (index, dim) in self.dims.iter().enumerate() {
            let inner = byte_len(&self.dims[index + 1..], self.run_bytes);
            let whole = at / dim.stride_bytes;
            if whole >= dim.count {
                return before + dim.count * inner;
            }
            before += whole * inner;
            at -= whole * dim.stride_bytes;
        }
        before + at.min(self.run_bytes)
    }

    /// Copies the selected bytes of `from`, which begins at byte `at` of the source.
    ///
    /// `to` must be as long as that.
    pub(crate) fn copy(&self, from: &[u8], at: u64, to: &mut [u8]) {
        let mut done = 0;
        self.each_run(at, from.len() as u64, |start, len| {
            to[done..done + len].copy_from_slice(&from[start..start + len]);
            done += len;
        });
    }

    /// Moves the selected bytes to the front of `bytes`, and returns their count; the selection
    /// must be ordered.
    pub(crate) fn compact(&self, bytes: &mut [u8], at: u64) -> usize {
        let mut done = 0;
        self.each_run(at, bytes.len() as u64, |start, len| {
            bytes.copy_within(start..start + len, done);
            done += len;
        });
        done
    }

    /// Calls `found` with the position and length of each run within the `len` bytes from `at` on.
    pub(crate) fn each_run(&self, at: u64, len: u64, mut found: impl FnMut(usize, usize)) {
        let window = SourceRange { at, end: at + len };
        window.walk(&self.dims, self.run_bytes, self.start, &mut found);
    }
}

fn byte_len(dims: &[Repeat], run_bytes: u64) -> u64 {
    dims.iter().map(|dim| dim.count).product::<u64>() * run_bytes
}

fn span_bytes(dims: &[Repeat], run_bytes: u64) -> u64 {
    dims.iter().fold(run_bytes, |span, dim| {
        span + (dim.count - 1) * dim.stride_bytes
    })
}

/// A part of a source.
struct SourceRange {
    at: u64,
    end: u64,
}

impl SourceRange {
    /// Walks the runs below `dims` whose first byte is `base`, as far as they are in the window.
    fn walk(
        &self,
        dims: &[Repeat],
        run_bytes: u64,
        base: u64,
        found: &mut impl FnMut(usize, usize),
    ) {
        let Some((dim, inner)) = dims.split_first() else {
            let (start, end) = (base.max(self.at), (base + run_bytes).min(self.end));
            if start < end {
                found((start - self.at) as usize, (end - start) as usize);
            }
            return;
        };
        let span = span_bytes(inner, run_bytes);
        let first = match self.at.checked_sub(base + span) {
            Some(passed) if dim.stride_bytes > 0 => passed / dim.stride_bytes + 1,
            _ => 0,
        };
        for index in first..dim.count {
            let base = base + index * dim.stride_bytes;
            if base >= self.end {
                break;
            }
            self.walk(inner, run_bytes, base, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Positions of all elements of a layout, in row-major order.
    fn positions(shape: &[usize], strides: &[usize]) -> Vec<usize> {
        let mut all = vec![0];
        for (&size, &stride) in shape.iter().zip(strides) {
            all = all
                .iter()
                .flat_map(|from| (0..size).map(move |index| from + index * stride))
                .collect();
        }
        all
    }

    #[test]
    fn packed_elements_are_selected_in_whole_bytes() {
        let of = |shape: [usize; 2], strides: [usize; 2]| {
            let layout = Layout::strided(shape, strides).unwrap();
            Selection::of(&layout, Dtype::F4, 1)
        };
        let mut columns = Selection::run(1, 1);
        columns.dims.push(Repeat {
            count: 3,
            stride_bytes: 2,
        });
        assert_eq!(of([3, 2], [4, 1]), Some(columns));
        assert_eq!(of([3, 3], [6, 1]), None);
        assert_eq!(of([2, 3], [1, 2]), None);
    }

    proptest! {
        /// Any layout, read whole, and ordered ones in windows, against single elements.
        #[test]
        fn selects_the_elements_of_a_layout(
            dims in proptest::collection::vec((1usize..5, 0usize..40), 0..4),
            start in 0u64..20,
            window in 1usize..60,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let layout = Layout::strided(&*shape, &*strides).unwrap();
            let selection = Selection::of(&layout, Dtype::F16, start).unwrap();
            let source: Vec<u8> = (0..2000u32).map(|index| (index * 7 / 3) as u8).collect();
            let expected: Vec<u8> = positions(&shape, &strides)
                .into_iter()
                .flat_map(|position| {
                    let at = start as usize + position * 2;
                    [source[at], source[at + 1]]
                })
                .collect();
            prop_assert_eq!(selection.byte_len(), expected.len() as u64);
            let mut whole = vec![0; expected.len()];
            selection.copy(&source, 0, &mut whole);
            prop_assert_eq!(&whole, &expected);
            let steps = shape.iter().zip(&strides).any(|(&size, &stride)| size > 1 && stride == 0);
            prop_assert!(!(steps && selection.is_ordered()));
            if !selection.is_ordered() {
                return Ok(());
            }
            let mut pieces = Vec::new();
            for (index, part) in source.chunks(window).enumerate() {
                let at = (index * window) as u64;
                let (before, after) = (
                    selection.bytes_before(at),
                    selection.bytes_before(at + part.len() as u64),
                );
                prop_assert_eq!(before, pieces.len() as u64);
                let mut piece = vec![0; (after - before) as usize];
                selection.copy(part, at, &mut piece);
                let mut compacted = part.to_vec();
                let len = selection.compact(&mut compacted, at);
                prop_assert_eq!(&compacted[..len], &piece);
                pieces.extend(piece);
            }
            prop_assert_eq!(&pieces, &expected);
        }
    }
}
