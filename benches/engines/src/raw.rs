//! This machine's limit: the bytes of the files into memory by the shortest way there is, with
//! nothing looked at.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tensorlift::Checkpoint;
use tensorlift_bench_protocol::{Checksum, Request, Result, measure};
use tensorlift_storage::{Anonymous, FileStorage, LocalFile, MapStorage, Storage};

/// What direct reads align offsets, lengths and addresses to.
const DIRECT_BYTES: usize = 4096;

/// How many threads read how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    direct: bool,
    threads: usize,
    chunk_bytes: usize,
}

impl Setting {
    /// Takes `pread-4x2` as 4 threads that read 2 MiB at once; `direct-` goes past the page cache.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (reader, numbers) = name.split_once('-')?;
        let (threads, mebibytes) = numbers.split_once('x')?;
        let direct = match reader {
            "pread" => false,
            "direct" => true,
            _ => return None,
        };
        let chunk_bytes = mebibytes.parse::<usize>().ok()?.checked_mul(1 << 20)?;
        let threads = threads.parse().ok()?;
        (threads > 0 && chunk_bytes > 0).then_some(Self {
            direct,
            threads,
            chunk_bytes,
        })
    }
}

/// Parallel reads into fresh huge pages.
pub(crate) fn run(request: &Request, setting: Setting) -> Result<()> {
    let load = || {
        let paths = request.files()?;
        let files = read_all(&paths, setting)?;
        Ok(paths.into_iter().zip(files).collect::<Vec<_>>())
    };
    measure(request, load, |files, checksum, _| {
        let files = files.iter().map(|(path, memory)| (path, &memory[..]));
        sum(request, files, checksum)
    })
}

/// A mapping of each file, populated.
pub(crate) fn mapping(request: &Request) -> Result<()> {
    let load = || {
        let mut files = Vec::new();
        for path in request.files()? {
            let map = MapStorage::open(&path)?;
            map.populate(0..map.len())?;
            files.push((path, map));
        }
        Ok(files)
    };
    measure(request, load, |files, checksum, _| {
        let files = files
            .iter()
            .map(|(path, map)| (path, map.as_slice().unwrap_or_default()));
        sum(request, files, checksum)
    })
}

/// Sums up the tensors that lie in the files, which the clock did not ask for.
pub(crate) fn sum<'a>(
    request: &Request,
    files: impl Iterator<Item = (&'a PathBuf, &'a [u8])>,
    checksum: &mut Checksum,
) -> Result<()> {
    let files: HashMap<&Path, &[u8]> = files.map(|(path, bytes)| (&**path, bytes)).collect();
    let checkpoint = Checkpoint::open(&request.path)?;
    let shards: Vec<&[u8]> = checkpoint.files().map(|path| files[path]).collect();
    for entry in checkpoint.catalog().entries() {
        let extent = entry.extent();
        let range = extent.offset as usize..extent.end() as usize;
        checksum.tensor(entry.name(), &shards[extent.shard.index()][range]);
    }
    Ok(())
}

fn read_all(paths: &[PathBuf], setting: Setting) -> io::Result<Vec<Anonymous>> {
    let mut files = Vec::new();
    let mut memory = Vec::new();
    for path in paths {
        let file = FileStorage::from_file(open(path, setting.direct)?)?;
        let len = file.len() as usize;
        memory.push(Anonymous::new(len.next_multiple_of(DIRECT_BYTES))?);
        files.push((file, len));
    }
    let chunks = memory.iter_mut().zip(&files).flat_map(|(memory, file)| {
        let chunks = memory.chunks_mut(setting.chunk_bytes).enumerate();
        chunks.map(move |(index, chunk)| (file, index * setting.chunk_bytes, chunk))
    });
    let chunks = Mutex::new(chunks);
    let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let read = || {
            while let Some(((file, len), offset, chunk)) = next() {
                read_chunk(file, *len, offset, chunk)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..setting.threads).map(|_| scope.spawn(read)).collect();
        let mut threads = threads.into_iter();
        threads.try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })?;
    Ok(memory)
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

#[cfg(target_os = "linux")]
fn open(path: &Path, direct: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.read(true);
    if direct {
        options.custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32);
    }
    options.open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path, direct: bool) -> io::Result<File> {
    if direct {
        return Err(io::ErrorKind::Unsupported.into());
    }
    OpenOptions::new().read(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_settings() {
        let setting = Setting {
            direct: true,
            threads: 8,
            chunk_bytes: 4 << 20,
        };
        assert_eq!(Setting::parse("direct-8x4"), Some(setting));
        for name in [
            "pread",
            "pread-4",
            "read-4x4",
            "pread-0x4",
            "pread-4x0",
            "pread-ax4",
        ] {
            assert_eq!(Setting::parse(name), None, "{name}");
        }
    }
}
