//! Memory that one thread reads into if bytes cannot land in place.

use tensorlift_storage::Anonymous;

use super::failure::Failure;

/// The scratch memory of one thread: page-aligned, kept from chunk to chunk.
#[derive(Default)]
pub(super) struct Scratch {
    memory: Option<Anonymous>,
}

impl Scratch {
    /// At least `len` bytes of it, with any content.
    pub(super) fn bytes(&mut self, len: u64) -> Result<&mut [u8], Failure> {
        let wanted = usize::try_from(len).map_err(|_| Failure::Memory { needed: len })?;
        if self.byte_len() < wanted {
            // Freed first, so that both never exist at once.
            self.memory = None;
        }
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => Anonymous::new(wanted).map_err(|_| Failure::Memory { needed: len })?,
        };
        Ok(&mut self.memory.insert(memory)[..wanted])
    }

    /// The memory that it holds.
    pub(super) fn byte_len(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.len())
    }
}

/// Zeroed memory, or an error where there is none.
pub(super) fn zeroed(len: u64) -> Result<Vec<u8>, Failure> {
    let refused = || Failure::Memory { needed: len };
    let len = usize::try_from(len).map_err(|_| refused())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| refused())?;
    bytes.resize(len, 0);
    Ok(bytes)
}
