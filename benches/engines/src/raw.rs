//! This machine's limit: the bytes of the files into memory by the shortest way there is, with
//! nothing looked at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tensorlift::Checkpoint;
use tensorlift_bench_protocol::{Checksum, Request, Result, measure};
use tensorlift_storage::measure::RawReads;
use tensorlift_storage::{LocalFile, MapStorage, Storage};

/// Takes `pread-4x2` as 4 threads that read 2 MiB at once; `direct-` goes past the page cache.
pub(crate) fn parse(name: &str) -> Option<RawReads> {
    let (reader, numbers) = name.split_once('-')?;
    let (threads, mebibytes) = numbers.split_once('x')?;
    let chunk_bytes = mebibytes.parse::<usize>().ok()?.checked_mul(1 << 20)?;
    let threads = threads.parse().ok()?;
    if threads == 0 || chunk_bytes == 0 {
        return None;
    }
    let reads = RawReads::new(threads, chunk_bytes);
    match reader {
        "pread" => Some(reads),
        "direct" => Some(reads.direct()),
        _ => None,
    }
}

/// Parallel reads into fresh huge pages.
pub(crate) fn run(request: &Request, reads: RawReads) -> Result<()> {
    let load = || {
        let paths = request.files()?;
        let files = reads.read(&paths, || true)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_settings() {
        let direct = RawReads::new(8, 4 << 20).direct();
        assert_eq!(parse("direct-8x4"), Some(direct));
        for name in [
            "pread",
            "pread-4",
            "read-4x4",
            "pread-0x4",
            "pread-4x0",
            "pread-ax4",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
