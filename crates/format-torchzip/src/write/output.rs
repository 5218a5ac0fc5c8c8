//! Where an archive goes, as long as it is wanted.
//!
//! A dropped [`ZipWriter`](zip::ZipWriter) tries to end its archive, and prints to standard error
//! if that fails: on a full disk, for one, where the caller has the error already.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Passes everything on until that fails once, or until [`WhileWanted`] is dropped; from then on,
/// everything succeeds and goes nowhere.
pub(super) struct Output<W> {
    inner: W,
    is_over: Arc<AtomicBool>,
    /// Where the next byte goes, so that this stays true once nothing is passed on: `ZipWriter`
    /// relies on it.
    position: u64,
}

/// An archive is wanted while this is there.
#[derive(Debug, Default)]
pub(super) struct WhileWanted {
    is_over: Arc<AtomicBool>,
}

impl<W> Output<W> {
    pub(super) fn new(inner: W, wanted: &WhileWanted) -> Self {
        Self {
            inner,
            is_over: Arc::clone(&wanted.is_over),
            position: 0,
        }
    }

    pub(super) fn into_inner(self) -> W {
        self.inner
    }

    /// What `pass_on` returns, or nothing once the archive is over.
    fn unless_over<T>(
        &mut self,
        pass_on: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let result = pass_on(&mut self.inner);
        let is_failure = |error: &io::Error| error.kind() != io::ErrorKind::Interrupted;
        if result.as_ref().is_err_and(is_failure) {
            self.is_over.store(true, Ordering::Relaxed);
        }
        Some(result)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.unless_over(|inner| inner.write(bytes));
        let written = written.unwrap_or(Ok(bytes.len()))?;
        self.position = self.position.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_over(W::flush).unwrap_or(Ok(()))
    }
}

impl<W: Seek> Seek for Output<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let nowhere = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) | SeekFrom::End(by) => self.position.saturating_add_signed(by),
        };
        let position = self.unless_over(|inner| inner.seek(to));
        self.position = position.unwrap_or(Ok(nowhere))?;
        Ok(self.position)
    }
}

impl Drop for WhileWanted {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Fails from a byte on, and counts how often it was asked.
    struct Full {
        disk: Cursor<Vec<u8>>,
        most: usize,
        calls_after: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.disk.get_ref().len() + bytes.len() > self.most {
                self.calls_after += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.disk.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.disk.seek(to)
        }
    }

    #[test]
    fn nothing_is_passed_on_after_a_failure() {
        let wanted = WhileWanted::default();
        let full = Full {
            disk: Cursor::default(),
            most: 4,
            calls_after: 0,
        };
        let mut output = Output::new(full, &wanted);
        output.write_all(b"abcd").unwrap();
        let error = output.write_all(b"e").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        output.write_all(b"e").unwrap();
        assert_eq!(output.stream_position().unwrap(), 5);
        assert_eq!(output.seek(SeekFrom::Start(9)).unwrap(), 9);
        output.write_all(b"ef").unwrap();
        assert_eq!(output.stream_position().unwrap(), 11);
        let full = output.into_inner();
        assert_eq!(
            (full.calls_after, &full.disk.get_ref()[..]),
            (1, &b"abcd"[..])
        );
    }

    #[test]
    fn nothing_is_passed_on_once_it_is_not_wanted() {
        let wanted = WhileWanted::default();
        let mut output = Output::new(Cursor::new(Vec::new()), &wanted);
        output.write_all(b"a").unwrap();
        drop(wanted);
        output.write_all(b"b").unwrap();
        output.flush().unwrap();
        assert_eq!(output.into_inner().into_inner(), b"a");
    }
}
