use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use flate2::bufread::DeflateDecoder;

use crate::{Cursor, Storage};

/// Inflates the raw deflate stream in a range of bytes into `out`, and returns its length.
///
/// The stream is right if that is the length of `out`. A damaged stream ends where the damage is;
/// a stream that is longer than `out` counts one byte more.
///
/// ```
/// use tensorlift_storage::{MemoryStorage, inflate};
///
/// // A stored block of three bytes.
/// let storage = MemoryStorage::new(b"\x01\x03\x00\xfc\xffabc".as_slice());
/// let mut bytes = [0; 3];
/// assert_eq!(inflate(&storage, 0..storage.len(), &mut bytes)?, 3);
/// assert_eq!(&bytes, b"abc");
/// # use tensorlift_storage::Storage;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If the storage cannot be read.
pub fn inflate(storage: &dyn Storage, range: Range<u64>, out: &mut [u8]) -> io::Result<usize> {
    let mut compressed = Cursor::new(storage);
    compressed.seek(SeekFrom::Start(range.start))?;
    let mut stream = DeflateDecoder::new(compressed.take(range.end - range.start));
    let found = read_up_to(&mut stream, out)?;
    Ok(found + read_up_to(&mut stream, &mut [0])?)
}

/// Fills as much of `buf` as the stream has.
fn read_up_to(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match stream.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_damage(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether the decoder found bytes that are not a deflate stream, or one that ends early.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
