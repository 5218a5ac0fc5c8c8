//! Inflating a record of an archive.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;
use tensorlift_storage::{Cursor, Storage};
use tensorlift_tensor_meta::Extent;

use super::failure::Failure;

/// Inflates the bytes of `extent` into `record`, which they must fill exactly.
pub(super) fn inflate(
    storage: &dyn Storage,
    extent: Extent,
    record: &mut [u8],
) -> Result<(), Failure> {
    let mut compressed = Cursor::new(storage);
    compressed.seek(SeekFrom::Start(extent.offset))?;
    let mut decoder = DeflateDecoder::new(compressed.take(extent.len));
    let found = read_up_to(&mut decoder, record)?;
    // One byte more would be a longer stream.
    let found = found + read_up_to(&mut decoder, &mut [0])?;
    match found == record.len() {
        true => Ok(()),
        false => Err(Failure::Decode {
            expected: record.len() as u64,
            found: found as u64,
        }),
    }
}

/// Fills as much of `buf` as the reader has; a broken stream ends where it breaks.
fn read_up_to(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match reader.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_broken_stream(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether a decoder found bytes that are no deflate stream, or one that ends early.
fn is_broken_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
