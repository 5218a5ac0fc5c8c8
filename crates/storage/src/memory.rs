use std::fmt;
use std::io;
use std::sync::Arc;

use crate::{ReaderKind, Storage};

/// Bytes that are in memory already, shared between its clones.
#[derive(Clone)]
pub struct MemoryStorage {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl MemoryStorage {
    /// Reads from `bytes`: a `Vec<u8>`, an `Arc<[u8]>`, a `&'static [u8]`, a mapping.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self {
            bytes: Arc::new(bytes),
        }
    }

    fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl Storage for MemoryStorage {
    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        copy_from(self.bytes(), offset, buf)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Memory
    }

    fn as_slice(&self) -> Option<&[u8]> {
        Some(self.bytes())
    }
}

/// Bytes that somebody else owns.
impl Storage for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        copy_from(self, offset, buf)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Memory
    }

    fn as_slice(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStorage({} bytes)", self.len())
    }
}

/// Copies what `bytes` holds from `offset` on.
pub(crate) fn copy_from(bytes: &[u8], offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get(offset..))
        .unwrap_or(&[]);
    let len = rest.len().min(buf.len());
    buf[..len].copy_from_slice(&rest[..len]);
    Ok(len)
}
