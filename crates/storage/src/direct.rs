use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::{LocalFile, ReaderKind, Storage, os};

/// The page for unaligned ends; file systems that need larger alignment get no direct reads.
const PAGE_BYTES: usize = 4096;

/// A file read past the page cache, straight into the caller's memory.
///
/// Reads land in place where the address agrees with the offset modulo the file's alignment;
/// their unaligned ends go through one page, and everything else through the page cache unless it
/// is bypassed.
/// A file system that announces direct reads and then refuses one is read through the page cache
/// from then on, and if io_uring fails, reads do without it; [`LocalFile::fallback`] says why.
#[derive(Debug)]
pub struct DirectStorage {
    direct: File,
    buffered: Arc<File>,
    alignment: os::DirectIo,
    stamp: os::Stamp,
    /// Whether parts that are in the page cache are taken from there.
    asks_cache: bool,
    /// Whether what does not land in place goes past the page cache too.
    bypasses_cache: bool,
    /// Rings for large reads, if io_uring is used.
    rings: Option<os::Rings>,
    rings_failed: OnceLock<String>,
    refused: OnceLock<String>,
}

/// The size of the buffer for reads that cannot land in place, in bytes.
const BOUNCE_BYTES: usize = 64 * PAGE_BYTES;

/// Memory that can be read into directly.
#[repr(C, align(4096))]
struct Bounce<const LEN: usize>([u8; LEN]);

impl DirectStorage {
    /// Opens a file once more, for direct reads.
    ///
    /// # Errors
    /// If the file system has no direct reads, or wants them aligned to more than 4,096 bytes.
    pub fn new(file: Arc<File>) -> io::Result<Self> {
        let alignment = os::direct_io(&file)?;
        let os::DirectIo { offset, memory } = alignment;
        if [offset, memory]
            .iter()
            .any(|size| !size.is_power_of_two() || *size > PAGE_BYTES)
        {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("direct reads must be aligned to {offset} bytes, in memory to {memory}"),
            ));
        }
        Ok(Self {
            direct: os::open_direct(&file)?,
            stamp: os::Stamp::of(&file)?,
            buffered: file,
            alignment,
            asks_cache: false,
            bypasses_cache: false,
            rings: None,
            rings_failed: OnceLock::new(),
            refused: OnceLock::new(),
        })
    }

    /// Reads the beginning of a file directly, as a load would, and returns the required alignment.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if the read is refused.
    pub fn probe(file: Arc<File>) -> io::Result<os::DirectIo> {
        let storage = Self::new(file)?.bypassing_cache();
        storage.read_at(0, &mut [0])?;
        match storage.fallback() {
            Some(why) => Err(io::Error::new(io::ErrorKind::Unsupported, why.to_owned())),
            None => Ok(storage.alignment),
        }
    }

    /// Reads ranges that are completely in the page cache from there: for files that are cached in
    /// part.
    #[must_use]
    pub fn asking_cache(mut self) -> Self {
        self.asks_cache = true;
        self
    }

    /// Reads past the page cache even what does not land in place, through a buffer.
    #[must_use]
    pub fn bypassing_cache(mut self) -> Self {
        self.bypasses_cache = true;
        self
    }

    /// Splits each large read into several requests of io_uring, all in flight at once.
    ///
    /// # Errors
    /// If the kernel has no io_uring, or this process may not use it.
    pub fn by_uring(mut self) -> io::Result<Self> {
        self.rings = Some(os::Rings::new()?);
        Ok(self)
    }

    /// Reads some bytes past the page cache, if they are placed so that this is possible.
    fn read_direct(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let unit = self.alignment.offset;
        // Below `unit`, so it fits.
        let ahead = (offset % unit as u64) as usize;
        let whole = buf.len() - buf.len() % unit;
        if ahead == 0 && whole > 0 && buf.as_ptr().addr().is_multiple_of(self.alignment.memory) {
            return self.read_aligned(offset, &mut buf[..whole]);
        }
        match self.lands_in_place(offset, buf) || buf.len() <= PAGE_BYTES {
            true => self.bounce(offset, buf, &mut Bounce([0; PAGE_BYTES]).0[..unit]),
            false => self.bounce(offset, buf, &mut Box::new(Bounce([0; BOUNCE_BYTES])).0),
        }
    }

    /// Reads the beginning of `buf` through aligned memory of whole units.
    fn bounce(&self, offset: u64, buf: &mut [u8], memory: &mut [u8]) -> io::Result<usize> {
        let unit = self.alignment.offset;
        let ahead = (offset % unit as u64) as usize;
        let wanted = (ahead + buf.len()).next_multiple_of(unit).min(memory.len());
        let memory = &mut memory[..wanted];
        let read = os::read_at(&self.direct, offset - ahead as u64, memory)?;
        let found = memory[..read].get(ahead..).unwrap_or(&[]);
        let len = found.len().min(buf.len());
        buf[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    fn read_aligned(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // Some file systems (btrfs) go through the page cache into memory that is not there yet.
        os::fault_in(buf);
        let rings = self.rings.as_ref();
        if let Some(rings) = rings.filter(|_| self.rings_failed.get().is_none()) {
            match rings.read_at(&self.direct, offset, buf) {
                Ok(read) => return read,
                Err(error) => {
                    if self.rings_failed.set(error.to_string()).is_ok() {
                        tracing::warn!(%error, "io_uring fails, reads go without it");
                    }
                }
            }
        }
        os::read_at(&self.direct, offset, buf)
    }

    /// Whether nearly all of a read can land in place.
    fn lands_in_place(&self, offset: u64, buf: &[u8]) -> bool {
        let unit = self.alignment.offset.max(self.alignment.memory) as u64;
        offset % unit == buf.as_ptr().addr() as u64 % unit
    }
}

impl Storage for DirectStorage {
    fn len(&self) -> u64 {
        self.stamp.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let cached = || {
            let len = buf.len() as u64;
            os::cached_bytes(&self.buffered, offset, len).is_some_and(|cached| cached >= len)
        };
        if buf.is_empty()
            || self.refused.get().is_some()
            || !(self.bypasses_cache || self.lands_in_place(offset, buf))
            || (self.asks_cache && cached())
        {
            return os::read_at(&self.buffered, offset, buf);
        }
        match self.read_direct(offset, buf) {
            Err(error) if os::refuses_direct(&error) => {
                let why = format!("accepted when opened, refused when read: {error}");
                if self.refused.set(why).is_ok() {
                    // Logged once, not by every thread.
                    tracing::warn!(%error, "direct reads are accepted, then refused");
                }
                os::read_at(&self.buffered, offset, buf)
            }
            result => result,
        }
    }

    fn reader(&self) -> ReaderKind {
        match (self.refused.get(), &self.rings, self.rings_failed.get()) {
            (Some(_), _, _) => ReaderKind::Buffered,
            (None, Some(_), None) => ReaderKind::Uring,
            (None, _, _) => ReaderKind::Direct,
        }
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(os::Stamp::of(&self.buffered)?.is_same(&self.stamp))
    }

    fn as_local(&self) -> Option<&dyn LocalFile> {
        Some(self)
    }
}

impl LocalFile for DirectStorage {
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        Ok(Some(Arc::clone(&self.buffered)))
    }

    fn fallback(&self) -> Option<&str> {
        let refused = self.refused.get().or(self.rings_failed.get());
        refused.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::StorageExt;

    const LEN: usize = (20 << 20) + 1003;

    #[test]
    fn reads_what_is_there_however_it_is_aligned() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..LEN as u32)
            .map(|index| (index * 31 / 7) as u8)
            .collect();
        file.write_all(&bytes).unwrap();
        file.as_file().sync_all().unwrap();
        let storage = match DirectStorage::new(Arc::new(file.reopen().unwrap())) {
            Ok(storage) => storage,
            Err(error) => {
                eprintln!("not run: no direct reads here: {error}");
                return;
            }
        };
        check(&storage, &bytes);
        let storage = storage.bypassing_cache();
        check(&storage, &bytes);
        match storage.by_uring() {
            Ok(storage) => check(&storage, &bytes),
            Err(error) => eprintln!("not run: no io_uring here: {error}"),
        }
    }

    fn check(storage: &DirectStorage, bytes: &[u8]) {
        const CANARY: u8 = 0xa5;
        let mut memory = crate::Anonymous::new(bytes.len() + 3 * 4096).unwrap();
        memory.fill(CANARY);
        for (offset, len, residue) in [
            (0, LEN, 0),
            (4096, 5 << 20, 0),
            (4103, 17 << 20, 7),
            (5, 50_000, 5),
            (5, 50_000, 6),
            (4096, 4096, 0),
            (LEN - 1003, 1003, (LEN - 1003) % 4096),
            (4097, 10, 1),
            (7, 0, 7),
        ] {
            let (before, rest) = memory.split_at_mut(4096 + residue);
            let (buf, behind) = rest.split_at_mut(len);
            buf.fill(0);
            storage.read_exact_at(offset as u64, buf).unwrap();
            assert_eq!(buf, &bytes[offset..][..len], "{len} bytes at {offset}");
            buf.fill(CANARY);
            let untouched = |bytes: &[u8]| bytes.iter().all(|&byte| byte == CANARY);
            assert!(untouched(before), "before {len} bytes at {offset}");
            assert!(untouched(behind), "behind {len} bytes at {offset}");
        }
        let past = storage.read_exact_at(LEN as u64 - 3, &mut memory[(LEN - 3) % 4096..][..4]);
        assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// Bytes that this thread has had read from disks, where the kernel counts them.
    #[cfg(target_os = "linux")]
    fn bytes_from_disks() -> Option<u64> {
        let counts = std::fs::read_to_string("/proc/thread-self/io").ok()?;
        let line = counts
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes: "))?;
        line.parse().ok()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_cached_is_taken_from_there_and_the_rest_from_the_disk() {
        const PART: usize = 4 << 20;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..LEN as u32).map(|index| (index * 7 / 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file.reopen().unwrap());
        os::drop_page_cache(&file).unwrap();
        let mut memory = crate::Anonymous::new(LEN).unwrap();
        os::read_at(&file, 0, &mut memory[..PART]).unwrap();
        let cached = os::cached_bytes(&file, 0, PART as u64);
        let cold = os::cached_bytes(&file, 4 * PART as u64, PART as u64);
        let counted = bytes_from_disks();
        let (Ok(storage), Some(counted), true, Some(0)) = (
            DirectStorage::new(Arc::clone(&file)),
            counted,
            cached == Some(PART as u64),
            cold,
        ) else {
            eprintln!("not run: {cached:?} and {cold:?} cached, {counted:?} read from disks");
            return;
        };
        let storage = storage.asking_cache();
        let mut read = |offset: usize| {
            let buf = &mut memory[offset..][..PART];
            let before = bytes_from_disks().unwrap();
            storage.read_exact_at(offset as u64, buf).unwrap();
            assert_eq!(buf, &bytes[offset..][..PART]);
            bytes_from_disks().unwrap() - before
        };
        // The kernel may read ahead on the way.
        read(0);
        let (warm, cold) = (read(0), read(4 * PART));
        if counted + cold == 0 {
            eprintln!("not run: reads from disks are not counted here");
            return;
        }
        assert_eq!((warm, cold), (0, PART as u64));
        assert_eq!(
            os::cached_bytes(&file, 4 * PART as u64, PART as u64),
            Some(0)
        );
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "uring"))]
    fn where_no_further_ring_can_be_had_reads_go_without_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..LEN as u32).map(|index| (index * 5 / 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.as_file().sync_all().unwrap();
        let Ok(mut storage) = DirectStorage::new(Arc::new(file.reopen().unwrap())) else {
            eprintln!("not run: no direct reads here");
            return;
        };
        storage.rings = Some(os::Rings::exhausted());
        assert_eq!(
            (storage.reader(), storage.fallback()),
            (ReaderKind::Uring, None)
        );
        check(&storage, &bytes);
        assert_eq!(storage.reader(), ReaderKind::Direct);
        assert!(storage.fallback().unwrap().contains("open files"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_means_a_refusal_is_told_from_failures() {
        for (code, refuses) in [
            (libc::EINVAL, true),
            (libc::EOPNOTSUPP, true),
            (libc::EIO, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(os::refuses_direct(&error), refuses, "{error}");
        }
    }

    #[test]
    fn a_refusal_at_the_first_read_leads_through_the_page_cache() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).map(|index| (index * 7 / 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.as_file().sync_all().unwrap();
        let Ok(mut storage) = DirectStorage::new(Arc::new(file.reopen().unwrap())) else {
            eprintln!("not run: no direct reads here");
            return;
        };
        assert_eq!(
            (storage.reader(), storage.fallback()),
            (ReaderKind::Direct, None)
        );
        // A file system that takes less than it promises: no kernel reads single bytes directly.
        storage.alignment = os::DirectIo {
            offset: 1,
            memory: 1,
        };
        let mut buf = [0; 1001];
        storage.read_exact_at(3, &mut buf).unwrap();
        assert_eq!(buf, bytes[3..1004]);
        if storage.fallback().is_none() {
            eprintln!("not run: this file system takes any alignment");
            return;
        }
        assert_eq!(storage.reader(), ReaderKind::Buffered);
        assert!(storage.fallback().unwrap().contains("refused when read"));
    }
}
