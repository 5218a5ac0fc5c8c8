use std::io::{self, BufRead, Read, Seek, SeekFrom};

use crate::{Storage, StorageExt};

/// The first window after a jump, in bytes.
const MIN_WINDOW: usize = 4 << 10;
/// The largest window of a sequential run, in bytes; it fits into the second-level cache.
const MAX_WINDOW: usize = 256 << 10;

/// A reading position in a storage, for parsers that want [`Read`] and [`Seek`].
///
/// It reads ahead as far as the access is sequential: 4 KiB after a jump, then twice as much each
/// time, up to 256 KiB.
/// So a directory costs few reads, and a header here and there costs few bytes.
#[derive(Debug)]
pub struct Cursor<'a> {
    storage: &'a dyn Storage,
    position: u64,
    /// Grows and is never cleared; the first `window_len` bytes are valid.
    window: Vec<u8>,
    window_len: usize,
    window_start: u64,
    next_window: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `storage`.
    #[must_use]
    pub fn new(storage: &'a dyn Storage) -> Self {
        Self {
            storage,
            position: 0,
            window: Vec::new(),
            window_len: 0,
            window_start: 0,
            next_window: MIN_WINDOW,
        }
    }

    fn window_end(&self) -> u64 {
        self.window_start + self.window_len as u64
    }

    /// Moves the window to the reading position, unless it holds it already.
    fn refill(&mut self) -> io::Result<()> {
        let end = self.window_end();
        if (self.window_start..end).contains(&self.position) {
            return Ok(());
        }
        let near = self.position >= end && self.position - end <= self.next_window as u64;
        self.next_window = if near {
            (self.next_window * 2).min(MAX_WINDOW)
        } else {
            MIN_WINDOW
        };
        let left = self.storage.len().saturating_sub(self.position);
        let len = left.min(self.next_window as u64) as usize;
        if self.window.len() < len {
            self.window.resize(len, 0);
        }
        self.window_len = 0;
        self.window_start = self.position;
        self.storage
            .read_exact_at(self.position, &mut self.window[..len])?;
        self.window_len = len;
        Ok(())
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Larger reads than the window gain nothing from it.
        if buf.len() >= MAX_WINDOW || self.storage.as_slice().is_some() {
            let read = self.storage.read_at(self.position, buf)?;
            self.position += read as u64;
            return Ok(read);
        }
        let available = self.fill_buf()?;
        let len = available.len().min(buf.len());
        buf[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Cursor<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.refill()?;
        // Empty at the end, where the window is empty too.
        let skip = (self.position - self.window_start).min(self.window_len as u64);
        Ok(&self.window[skip as usize..self.window_len])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.storage.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStorage;
    use crate::wrap::Counted;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|index| (index * 7 + index / 251) as u8)
            .collect()
    }

    #[test]
    fn reads_what_a_slice_reads() {
        let bytes = bytes(300_000);
        let storage = Counted::new(MemoryStorage::new(bytes.clone()));
        let mut cursor = Cursor::new(&storage);
        let mut plain = io::Cursor::new(&bytes);
        let mut state = 7u64;
        for _ in 0..500 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let offset = (state >> 33) % 310_000;
            let len = (state >> 20) as usize % 9000;
            for reader in [&mut cursor as &mut dyn ReadSeek, &mut plain] {
                reader.seek(SeekFrom::Start(offset)).unwrap();
            }
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            (&mut cursor)
                .take(len as u64)
                .read_to_end(&mut ours)
                .unwrap();
            (&mut plain)
                .take(len as u64)
                .read_to_end(&mut theirs)
                .unwrap();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_sequential_run_costs_few_reads() {
        let storage = Counted::new(MemoryStorage::new(bytes(4 << 20)));
        let mut sink = Vec::new();
        Cursor::new(&storage).read_to_end(&mut sink).unwrap();
        assert_eq!(sink.len(), 4 << 20);
        assert!(storage.reads() < 40, "{} reads", storage.reads());
    }

    #[test]
    fn a_seek_before_the_start_is_refused() {
        let storage = MemoryStorage::new(bytes(10));
        let mut cursor = Cursor::new(&storage);
        assert!(cursor.seek(SeekFrom::End(-11)).is_err());
        assert_eq!(cursor.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
        assert_eq!(cursor.read(&mut [0; 4]).unwrap(), 0);
    }

    trait ReadSeek: Read + Seek {}
    impl<T: Read + Seek> ReadSeek for T {}
}
