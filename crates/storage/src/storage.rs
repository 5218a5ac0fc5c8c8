use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::ReaderKind;

/// Bytes that can be read at any offset, by many threads at once.
///
/// An implementation needs only [`len`](Self::len) and [`read_at`](Self::read_at); everything else
/// makes it faster or improves reports. [`StorageExt`] has conveniences built on these two.
///
/// ```
/// use std::io;
/// use tensorlift_storage::{Storage, StorageExt};
///
/// /// A file of zeros.
/// #[derive(Debug)]
/// struct Zeros(u64);
///
/// impl Storage for Zeros {
///     fn len(&self) -> u64 {
///         self.0
///     }
///
///     fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
///         let left = self.0.saturating_sub(offset);
///         let count = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
///         buf[..count].fill(0);
///         Ok(count)
///     }
/// }
///
/// let mut end = [1; 4];
/// Zeros(10).read_exact_at(6, &mut end)?;
/// assert_eq!(end, [0; 4]);
/// # Ok::<(), io::Error>(())
/// ```
#[expect(clippy::len_without_is_empty, reason = "it is in `StorageExt`")]
pub trait Storage: Send + Sync + fmt::Debug {
    /// The length in bytes, as it was when the storage was opened.
    fn len(&self) -> u64;

    /// Reads bytes from `offset` on into `buf` and returns their count, which may be smaller than
    /// asked for; 0 only at the end or for an empty `buf`.
    ///
    /// # Errors
    /// Errors of the source. After [`io::ErrorKind::Interrupted`], callers try again.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// How the bytes are read, for reports.
    fn reader(&self) -> ReaderKind {
        ReaderKind::Other("storage")
    }

    /// All bytes at once, where they are in memory already.
    fn as_slice(&self) -> Option<&[u8]> {
        None
    }

    /// Closes descriptors until the next read.
    fn release(&self) {}

    /// Whether the source is unchanged since it was opened, as far as can be known.
    ///
    /// # Errors
    /// If the source cannot be queried any more.
    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Operations of local files, if the storage is exactly one local file.
    fn as_local(&self) -> Option<&dyn LocalFile> {
        None
    }
}

/// A storage that is one local file.
pub trait LocalFile {
    /// The open file; opened again if it was released. `None` where a mapping has closed it.
    ///
    /// # Errors
    /// If it cannot be opened any more.
    fn file(&self) -> io::Result<Option<Arc<File>>>;

    /// Why reads no longer use the reader that [`Storage::reader`] named at first, if so.
    fn fallback(&self) -> Option<&str> {
        None
    }

    /// Brings the bytes of `range` into memory, which [`Storage::as_slice`] alone leaves to the
    /// first access.
    ///
    /// # Errors
    /// If the bytes no longer exist.
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }
}

/// Conveniences for every storage, `dyn Storage` too.
pub trait StorageExt: Storage {
    /// Whether it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes from `offset` on, by as many reads as that takes.
    ///
    /// # Errors
    /// As [`Storage::read_at`], and [`io::ErrorKind::UnexpectedEof`] where the bytes end early.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(offset + done as u64, &mut buf[done..]) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!(
                            "expected {} bytes at offset {offset}, found {done}",
                            buf.len()
                        ),
                    ));
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }
    fn reader(&self) -> ReaderKind {
        (**self).reader()
    }
    fn as_slice(&self) -> Option<&[u8]> {
        (**self).as_slice()
    }
    fn release(&self) {
        (**self).release();
    }
    fn is_unchanged(&self) -> io::Result<bool> {
        (**self).is_unchanged()
    }
    fn as_local(&self) -> Option<&dyn LocalFile> {
        (**self).as_local()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Is interrupted before each read, and then reads one byte.
    #[derive(Debug, Default)]
    struct Interrupted(AtomicU32);

    impl Storage for Interrupted {
        fn len(&self) -> u64 {
            10
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match (offset < 10, buf.first_mut()) {
                (true, Some(byte)) => {
                    *byte = offset as u8;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn interruptions_are_no_failures() {
        let mut buf = [0; 4];
        Interrupted::default().read_exact_at(3, &mut buf).unwrap();
        assert_eq!(buf, [3, 4, 5, 6]);
    }

    #[test]
    fn an_early_end_is_told_with_what_was_found() {
        let error = Interrupted::default()
            .read_exact_at(8, &mut [0; 4])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "expected 4 bytes at offset 8, found 2");
    }
}
