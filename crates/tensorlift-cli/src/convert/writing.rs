//! What writers are told beside what to write: how to load, whom to tell, when to stop.

use std::cell::Cell;

use tensorlift::{CancelToken, LoadOptions, Loader, Result};

use crate::interrupt;
use crate::progress::Bar;

/// A conversion under way.
pub(super) struct Writing {
    bar: Bar,
    written: Cell<u64>,
    cancel: CancelToken,
    options: LoadOptions,
}

impl Writing {
    /// A conversion that writes `bytes` bytes of tensors.
    pub(super) fn new(bytes: u64, cancel: CancelToken, options: LoadOptions) -> Self {
        Self {
            bar: Bar::of(bytes),
            written: Cell::new(0),
            cancel,
            options,
        }
    }

    /// The loader of the next tensors.
    pub(super) fn loader<'c>(&self, loader: Loader<'c>) -> Loader<'c> {
        let loader = loader.options(self.options.clone());
        loader.cancel_token(self.cancel.clone())
    }

    /// Counts bytes that were written; an error if the conversion is to stop.
    pub(super) fn wrote(&self, bytes: usize) -> Result<()> {
        interrupt::check(&self.cancel)?;
        self.written.set(self.written.get() + bytes as u64);
        self.bar.set(self.written.get());
        Ok(())
    }
}
