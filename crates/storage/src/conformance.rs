//! The suite that every [`Storage`] passes.
//!
//! ```
//! use tensorlift_storage::conformance;
//!
//! let bytes = [1, 2, 3];
//! conformance::check(&bytes.as_slice(), &bytes);
//! ```

use std::io;
use std::thread;

use crate::{Storage, StorageExt};

/// Checks a storage whose bytes are `expected`: length, reads at any offset, past the end, of no
/// bytes, by several threads at once, after a release, and the whole slice and the local file where
/// there are any.
///
/// Takes seconds for a few MiB; long storages are checked at sampled places.
///
/// # Panics
/// Where the storage breaks the contract of [`Storage`], with what was expected and found.
pub fn check(storage: &dyn Storage, expected: &[u8]) {
    length(storage, expected);
    reads_of_nothing(storage, expected);
    reads_past_the_end(storage, expected);
    reads_at_any_offset(storage, expected);
    reads_by_many_threads(storage, expected);
    whole_slice(storage, expected);
    local_file(storage, expected);
    unchanged(storage);
    storage.release();
    read_back(storage, expected, 0, expected.len());
    unchanged(storage);
}

fn length(storage: &dyn Storage, expected: &[u8]) {
    assert_eq!(storage.len(), expected.len() as u64, "len()");
    assert_eq!(storage.is_empty(), expected.is_empty(), "is_empty()");
    let name = storage.reader().name();
    assert!(!name.is_empty(), "reader() has a name");
}

fn reads_of_nothing(storage: &dyn Storage, expected: &[u8]) {
    let len = expected.len() as u64;
    for offset in [0, len / 2, len, len + 1, len + 4096] {
        let read = read_at(storage, offset, &mut []);
        assert_eq!(read.ok(), Some(0), "an empty read at {offset}");
    }
}

fn reads_past_the_end(storage: &dyn Storage, expected: &[u8]) {
    let len = expected.len() as u64;
    for offset in [len, len + 1, len + 4096, u64::MAX - 1, u64::MAX] {
        let mut buf = [0xa5; 7];
        let read = read_at(storage, offset, &mut buf);
        // An offset that no file can have may be refused by the system.
        if offset <= len + 4096 {
            let read = read.unwrap_or_else(|error| panic!("a read at {offset}: {error}"));
            assert_eq!(read, 0, "a read at {offset}, past the end");
        } else {
            assert!(!matches!(read, Ok(1..)), "bytes at offset {offset}");
        }
        assert_eq!(buf, [0xa5; 7], "a read past the end writes nothing");
        let error = storage.read_exact_at(offset, &mut buf).err();
        let error = error.unwrap_or_else(|| panic!("an exact read at {offset} succeeded"));
        if offset <= len + 4096 {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {offset}");
        }
    }
    // Across the end: what there is, and an error from the exact read.
    let first = len.saturating_sub(3);
    let mut buf = [0xa5; 10];
    let found = read_fully(storage, first, &mut buf);
    assert_eq!(&buf[..found], &expected[first as usize..], "the last bytes");
    assert!(
        buf[found..].iter().all(|&byte| byte == 0xa5),
        "a read across the end writes past what it returns"
    );
    let error = storage.read_exact_at(first, &mut [0; 10]).err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(io::ErrorKind::UnexpectedEof),
        "an exact read across the end"
    );
}

fn reads_at_any_offset(storage: &dyn Storage, expected: &[u8]) {
    let len = expected.len();
    let mut places: Vec<(usize, usize)> = Vec::new();
    // Every short read near the start and the end, then random ones, then everything.
    for start in (0..len.min(40)).chain(len.saturating_sub(40)..len) {
        for size in [1, 2, 7, 8, 33] {
            places.push((start, size.min(len - start)));
        }
    }
    if len > 0 {
        for round in 0..200u64 {
            let start = random(round, 0) as usize % len;
            let size = random(round, 1) as usize % (len - start).min(1 << 20);
            places.push((start, size));
        }
        for page in (0..len).step_by((len / 16).next_multiple_of(4096).max(4096)) {
            places.push((page, 4096.min(len - page)));
        }
    }
    places.push((0, len));
    for (start, size) in places {
        read_back(storage, expected, start, size);
    }
}

fn reads_by_many_threads(storage: &dyn Storage, expected: &[u8]) {
    const THREADS: usize = 8;
    let len = expected.len();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                // Each thread reads everything in chunks of its own size, from its own start on.
                let chunk = len.div_ceil(3 + thread).max(1);
                let starts: Vec<usize> = (0..len).step_by(chunk).collect();
                for index in 0..starts.len() {
                    let start = starts[(index + thread) % starts.len()];
                    read_back(storage, expected, start, chunk.min(len - start));
                }
            });
        }
    });
}

fn whole_slice(storage: &dyn Storage, expected: &[u8]) {
    if let Some(slice) = storage.as_slice() {
        assert!(slice == expected, "as_slice() differs from the bytes");
    }
}

fn local_file(storage: &dyn Storage, expected: &[u8]) {
    let Some(local) = storage.as_local() else {
        return;
    };
    let len = expected.len() as u64;
    local
        .populate(0..len)
        .unwrap_or_else(|error| panic!("populate(): {error}"));
    let file = local.file();
    let file = file.unwrap_or_else(|error| panic!("file(): {error}"));
    if let Some(file) = file {
        let metadata = file.metadata();
        let metadata = metadata.unwrap_or_else(|error| panic!("file(): {error}"));
        assert_eq!(metadata.len(), len, "file() has another length");
    }
}

fn unchanged(storage: &dyn Storage) {
    let unchanged = storage.is_unchanged();
    let unchanged = unchanged.unwrap_or_else(|error| panic!("is_unchanged(): {error}"));
    assert!(unchanged, "is_unchanged() for a storage nobody touched");
}

fn read_back(storage: &dyn Storage, expected: &[u8], start: usize, size: usize) {
    let mut buf = vec![0; size];
    storage
        .read_exact_at(start as u64, &mut buf)
        .unwrap_or_else(|error| panic!("{size} bytes at {start}: {error}"));
    assert!(
        buf == expected[start..start + size],
        "{size} bytes at {start} differ"
    );
}

/// Reads until the end or until `buf` is full.
fn read_fully(storage: &dyn Storage, offset: u64, buf: &mut [u8]) -> usize {
    let mut done = 0;
    while done < buf.len() {
        match read_at(storage, offset + done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) => panic!("a read at {}: {error}", offset + done as u64),
        }
    }
    done
}

/// One read, tried again where it was interrupted.
fn read_at(storage: &dyn Storage, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match storage.read_at(offset, buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The finaliser of a counter-based generator: the same numbers each time.
fn random(round: u64, which: u64) -> u64 {
    let mut x = (2 * round + which).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
