//! Loaded tensors and the memory under them, sorted out before any Python object is made.

use std::collections::HashMap;
use std::sync::Arc;

use tensorlift::{Dtype, Loaded, Tensor};

use crate::span::{Block, Span};

/// All tensors of a load, each with the span that it looks at.
///
/// A span holds what was loaded of one record, so that names that share a record in the file
/// share memory here, and no others do.
pub(crate) struct Views {
    tensors: Vec<Tensor>,
    /// The number of each tensor's span.
    span_of: Vec<usize>,
    spans: Vec<Arc<Span>>,
    /// How many tensors look at each span.
    users: Vec<usize>,
}

/// One tensor, and where it lies in its span.
pub(crate) struct View<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) span: &'a Arc<Span>,
    /// The number of its span.
    pub(crate) number: usize,
    /// Its first byte in the span.
    pub(crate) offset: usize,
    /// Whether it is the only one on its span, and covers it.
    pub(crate) is_whole: bool,
}

/// Which group, which record, and where the record begins in the group.
type Key = (usize, usize, i128);

impl Views {
    pub(crate) fn new(loaded: Loaded) -> Self {
        let tensors = loaded.into_tensors();
        let is_shared = shared_records(&tensors);
        // Only tensors of records that others look at too: few, and mostly none.
        let mut numbers: HashMap<Key, usize> = HashMap::new();
        let mut ranges: Vec<(usize, usize, usize)> = Vec::with_capacity(tensors.len());
        let mut span_of = Vec::with_capacity(tensors.len());
        for (position, tensor) in tensors.iter().enumerate() {
            let (start, end) = (tensor.offset(), tensor.offset() + tensor.span_bytes());
            let mut add = || {
                ranges.push((position, start, end));
                ranges.len() - 1
            };
            let number = match is_shared[record(tensor)] {
                true => *numbers.entry(key(tensor)).or_insert_with(add),
                false => add(),
            };
            let range = &mut ranges[number];
            (range.1, range.2) = (range.1.min(start), range.2.max(end));
            span_of.push(number);
        }
        let mut blocks: HashMap<usize, Block> = HashMap::new();
        let spans = ranges.iter().map(|&(position, start, end)| {
            let group = tensors[position].group();
            let block = blocks
                .entry(Arc::as_ptr(group).addr())
                .or_insert_with(|| Block::of(group));
            Arc::new(Span::new(block.clone(), start, end - start))
        });
        let spans: Vec<Arc<Span>> = spans.collect();
        let mut users = vec![0; spans.len()];
        span_of.iter().for_each(|&number| users[number] += 1);
        Self {
            tensors,
            span_of,
            spans,
            users,
        }
    }

    /// The tensors, in file order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = View<'_>> {
        self.tensors
            .iter()
            .zip(&self.span_of)
            .map(|(tensor, &number)| {
                let span = &self.spans[number];
                View {
                    tensor,
                    span,
                    number,
                    offset: tensor.offset() - span.start(),
                    is_whole: self.users[number] == 1 && span.len() == tensor.span_bytes(),
                }
            })
    }

    pub(crate) fn spans(&self) -> &[Arc<Span>] {
        &self.spans
    }
}

fn record(tensor: &Tensor) -> usize {
    tensor.entry().view().record.index()
}

/// Whether several tensors look at each record.
fn shared_records(tensors: &[Tensor]) -> Vec<bool> {
    let records = tensors.iter().map(record).max().map_or(0, |last| last + 1);
    let (mut is_seen, mut is_shared) = (vec![false; records], vec![false; records]);
    for record in tensors.iter().map(record) {
        is_shared[record] |= std::mem::replace(&mut is_seen[record], true);
    }
    is_shared
}

fn key(tensor: &Tensor) -> Key {
    let view = tensor.entry().view();
    let start = tensor.offset() as i128 - i128::from(view.offset);
    let group = Arc::as_ptr(tensor.group()).addr();
    (group, record(tensor), start)
}

/// Whether elements of a dtype are parts of bytes, so that arrays of it are arrays of bytes.
pub(crate) fn is_packed(dtype: Dtype) -> bool {
    dtype.byte_len().is_none()
}
