//! For measurements: where files are before one, and what a machine reads at most.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use crate::{Anonymous, DirectStorage, FileStorage, ReaderKind, Storage, os};

/// The largest share that may be left of a file that is out of the page cache: what others have
/// mapped stays.
const COLD_SHARE: f64 = 0.01;
/// The least share of a file that is in the page cache.
const WARM_SHARE: f64 = 0.99;
/// What direct reads align offsets, lengths and addresses to.
const DIRECT_BYTES: usize = 4096;

/// Drops a file from the page cache, and checks that it is gone.
///
/// # Errors
/// If pages stay, as those do that another process maps, or if the system does not tell.
pub fn cool(file: &File) -> io::Result<()> {
    os::drop_page_cache(file)?;
    match cached_share(file)? {
        Some(share) if share > COLD_SHARE => Err(io::Error::other(format!(
            "{:.0} % of the file stayed in the page cache",
            share * 100.0
        ))),
        Some(_) => Ok(()),
        None => Err(io::Error::other(
            "this system does not tell what the page cache holds",
        )),
    }
}

/// Reads a file unless it is in the page cache, and checks that it stayed there, where the system
/// tells. `goes_on` is asked before each read.
///
/// # Errors
/// If it cannot be read, or did not stay; [`io::ErrorKind::Interrupted`] once `goes_on` says no.
pub fn warm(file: &File, goes_on: impl Fn() -> bool) -> io::Result<()> {
    if cached_share(file)?.is_some_and(|share| share >= WARM_SHARE) {
        return Ok(());
    }
    let (mut buffer, mut offset) = (vec![0; 4 << 20], 0);
    loop {
        if !goes_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match os::read_at(file, offset, &mut buffer) {
            Ok(0) => break,
            Ok(read) => offset += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match cached_share(file)? {
        Some(share) if share < WARM_SHARE => {
            Err(io::Error::other("the page cache does not hold the file"))
        }
        _ => Ok(()),
    }
}

/// The share of the whole file that is cached; samples could miss what was left.
fn cached_share(file: &File) -> io::Result<Option<f64>> {
    let len = file.metadata()?.len();
    let cached = os::cached_bytes(file, 0, len);
    Ok(cached.map(|bytes| bytes as f64 / len.max(1) as f64))
}

/// Parallel reads of whole files into fresh huge pages, with nothing looked at: the shortest way
/// into memory that there is, and so what a load can be held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawReads {
    /// Whether they go past the page cache.
    pub direct: bool,
    /// Threads that read, at least 1.
    pub threads: usize,
    /// Bytes of one read, a multiple of 4,096.
    pub chunk_bytes: usize,
}

impl RawReads {
    /// Reads by `threads` threads of `chunk_bytes` bytes each, through the page cache; the size is
    /// rounded up to a multiple of 4,096.
    #[must_use]
    pub fn new(threads: usize, chunk_bytes: usize) -> Self {
        Self {
            direct: false,
            threads: threads.max(1),
            chunk_bytes: chunk_bytes.max(1).next_multiple_of(DIRECT_BYTES),
        }
    }

    /// Reads past the page cache.
    #[must_use]
    pub const fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Reads all files; the memory of each ends at a multiple of 4,096 bytes.
    ///
    /// `goes_on` is asked before each read.
    ///
    /// # Errors
    /// If a file cannot be read so, or is cut short meanwhile; [`io::ErrorKind::Interrupted`] once
    /// `goes_on` says no.
    pub fn read(
        self,
        paths: &[impl AsRef<Path>],
        goes_on: impl Fn() -> bool + Sync,
    ) -> io::Result<Vec<Anonymous>> {
        let mut files = Vec::new();
        let mut memory = Vec::new();
        for path in paths {
            let file = FileStorage::from_file(self.open(path.as_ref())?)?;
            let len = usize::try_from(file.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
            memory.push(Anonymous::new(len.next_multiple_of(DIRECT_BYTES))?);
            files.push((file, len));
        }
        let chunks = memory.iter_mut().zip(&files).flat_map(|(memory, file)| {
            let chunks = memory.chunks_mut(self.chunk_bytes).enumerate();
            chunks.map(move |(index, chunk)| (file, index * self.chunk_bytes, chunk))
        });
        let chunks = Mutex::new(chunks);
        let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            let read = || {
                while let Some(((file, len), offset, chunk)) = next() {
                    if !goes_on() {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    read_chunk(file, *len, offset, chunk)?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(read)).collect();
            let ends: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
            let mut ends = ends.into_iter();
            ends.try_for_each(|end| {
                end.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
            })
        })?;
        Ok(memory)
    }

    fn open(self, path: &Path) -> io::Result<File> {
        let file = File::open(path)?;
        match self.direct {
            true => os::open_direct(&file),
            false => Ok(file),
        }
    }
}

/// Reads up to the end of the chunk or of the file, whichever comes first.
fn read_chunk(file: &FileStorage, len: usize, offset: usize, chunk: &mut [u8]) -> io::Result<()> {
    let wanted = chunk.len().min(len - offset);
    let mut done = 0;
    // The buffer ends at a multiple of the alignment, and so direct reads may ask beyond the end.
    while done < wanted {
        match file.read_at((offset + done) as u64, &mut chunk[done..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Several files one after another, as one storage.
#[derive(Debug)]
pub struct Joined {
    /// Each with the position of its first byte.
    files: Vec<(u64, Box<dyn Storage>)>,
    len: u64,
}

impl Joined {
    /// Opens the files; with `direct`, those whose file system allows it are read past the page
    /// cache.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn open(paths: &[impl AsRef<Path>], direct: bool) -> io::Result<Self> {
        let (mut files, mut len) = (Vec::new(), 0);
        for path in paths {
            let file = Arc::new(File::open(path)?);
            let past_cache = match direct {
                true => DirectStorage::new(Arc::clone(&file)).ok(),
                false => None,
            };
            let storage: Box<dyn Storage> = match past_cache {
                Some(storage) => Box::new(storage),
                None => Box::new(FileStorage::from_file(file)?),
            };
            let start = len;
            len += storage.len();
            files.push((start, storage));
        }
        Ok(Self { files, len })
    }
}

impl Storage for Joined {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let after = self.files.partition_point(|(start, _)| *start <= offset);
        // The last of several that begin there: those before it are empty.
        match after.checked_sub(1) {
            Some(index) => {
                let (start, file) = &self.files[index];
                file.read_at(offset - start, buf)
            }
            None => Ok(0),
        }
    }

    fn reader(&self) -> ReaderKind {
        let first = self.files.first();
        first.map_or(ReaderKind::Buffered, |(_, file)| file.reader())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::StorageExt;

    #[test]
    #[cfg(unix)]
    fn what_lies_between_samples_counts() {
        use std::os::unix::fs::FileExt;

        const MIB: usize = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        for index in 0..64 {
            file.write_all_at(&vec![1; MIB], (index * MIB) as u64)
                .unwrap();
        }
        file.sync_all().unwrap();
        os::drop_page_cache(&file).unwrap();
        let mut middle = vec![0; MIB / 16];
        for index in 0..64 {
            file.read_exact_at(&mut middle, (index * MIB + MIB / 2) as u64)
                .unwrap();
        }
        // Where the system does not tell, nothing cold is measured.
        if let Some(share) = cached_share(&file).unwrap() {
            assert!(share > 0.06, "{share}");
        }
    }

    #[test]
    fn files_are_read_whole_and_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        let mut contents = Vec::new();
        for len in [0, 1, 4096, 4097, 300_000] {
            let bytes: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
            let path = folder.path().join(len.to_string());
            std::fs::write(&path, &bytes).unwrap();
            paths.push(path);
            contents.push(bytes);
        }
        for reads in [
            RawReads::new(1, 1 << 20),
            RawReads::new(3, 1),
            RawReads::new(2, 8192),
        ] {
            for reads in [reads, reads.direct()] {
                let memory = match reads.read(&paths, || true) {
                    Ok(memory) => memory,
                    // Not every file system has direct reads.
                    Err(_) if reads.direct => continue,
                    Err(error) => panic!("{reads:?}: {error}"),
                };
                for (memory, bytes) in memory.iter().zip(&contents) {
                    assert!(memory[..bytes.len()] == bytes[..], "{reads:?}");
                    assert_eq!(memory.len(), bytes.len().next_multiple_of(DIRECT_BYTES));
                }
            }
        }
        for direct in [false, true] {
            let joined = Joined::open(&paths, direct).unwrap();
            let mut memory = vec![0; joined.len() as usize];
            joined.read_exact_at(0, &mut memory).unwrap();
            assert!(memory == contents.concat());
            assert_eq!(joined.read_at(joined.len(), &mut [0]).unwrap(), 0);
        }
        let asked = AtomicUsize::new(0);
        let twice = || asked.fetch_add(1, Ordering::Relaxed) < 2;
        let error = RawReads::new(2, 4096).read(&paths, twice).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert!(asked.into_inner() <= 4);
    }
}
