use std::collections::HashSet;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use tensorlift::{Checkpoint, Error, ErrorKind, Loaded, Result};
use tensorlift_tensor_meta::Source;

use super::contents::Item;

/// The most bytes of a batch that has several tensors. Two are in memory at a time: one that is
/// written and one that is read.
const BATCH_BYTES: u64 = 128 << 20;

/// Loaded tensors, one after another, a batch ahead of whoever asks.
pub(super) struct Feed<'a> {
    items: &'a [&'a Item<'a>],
    batches: Receiver<Result<(Range<usize>, Loaded)>>,
    current: Option<(Range<usize>, Loaded)>,
    failure: Option<Error>,
}

/// Loads `items` in their order while `consume` takes them.
pub(super) fn with_feed<T>(
    checkpoint: &Checkpoint,
    items: &[&Item<'_>],
    consume: impl FnOnce(Feed<'_>) -> Result<T>,
) -> Result<T> {
    thread::scope(|scope| {
        // Nothing waits in the channel, so that memory holds two batches at most.
        let (sender, batches) = sync_channel(0);
        scope.spawn(move || {
            for range in split(checkpoint, items) {
                let loaded = load(checkpoint, &items[range.clone()]);
                let is_last = loaded.is_err();
                let sent = sender.send(loaded.map(|loaded| (range, loaded)));
                // Whoever took them has failed.
                if sent.is_err() || is_last {
                    return;
                }
            }
        });
        consume(Feed {
            items,
            batches,
            current: None,
            failure: None,
        })
    })
}

impl Feed<'_> {
    /// The row-major bytes of the item at `position`, passed to `take`.
    ///
    /// Positions may only grow.
    pub(super) fn bytes<T>(
        &mut self,
        position: usize,
        take: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let item = self.items[position];
        let loaded = loop {
            match &self.current {
                Some((range, loaded)) if range.contains(&position) => break loaded,
                // Its memory is free before the next one is waited for.
                _ => self.current = None,
            }
            self.current = Some(self.batches.recv().unwrap_or_else(|_| {
                let found = "the tensors ended before the description did";
                Err(Error::new(ErrorKind::Misuse, found).with_tensor(item.entry.name()))
            })?);
        };
        let tensor = loaded.tensor(item.entry.name())?.to_contiguous()?;
        take(tensor.as_bytes()?)
    }

    /// As [`bytes`](Self::bytes), for callers that cannot fail: after a failure there are none,
    /// and [`failure`](Self::failure) has it.
    pub(super) fn bytes_or_nothing(&mut self, position: usize) -> Vec<u8> {
        if self.failure.is_some() {
            return Vec::new();
        }
        let bytes = self.bytes(position, |bytes| Ok(bytes.to_vec()));
        bytes.unwrap_or_else(|error| {
            self.failure = Some(error);
            Vec::new()
        })
    }

    /// The first failure.
    pub(super) fn failure(self) -> Option<Error> {
        self.failure
    }
}

fn load(checkpoint: &Checkpoint, items: &[&Item<'_>]) -> Result<Loaded> {
    let names: HashSet<&str> = items.iter().map(|item| item.entry.name()).collect();
    let wanted = |entry: &tensorlift::Entry| names.contains(entry.name());
    checkpoint.loader().select(wanted).load()
}

/// Neighbours that may be in memory together.
fn split(checkpoint: &Checkpoint, items: &[&Item<'_>]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0u64;
    for (position, item) in items.iter().enumerate() {
        // A compressed record is unpacked whole.
        let needed = match checkpoint.catalog().record(item.entry).source {
            Source::Deflated { len, .. } => len,
            _ => item.entry.span_bytes(),
        };
        bytes = bytes.saturating_add(needed);
        match batches.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.end = position + 1,
            _ => {
                batches.push(position..position + 1);
                bytes = needed;
            }
        }
    }
    batches
}
