//! Which reader a shard gets, and why not another.

use std::fs::File;
use std::io;
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use tensorlift_storage::{DirectStorage, LocalFile, MapStorage, ReaderKind, Storage, os};
use tensorlift_tensor_meta::{Error, ErrorKind};

use crate::options::{LoadOptions, Mode};
use crate::page_cache::PageCache;
use crate::plan::Plan;
use crate::report::{FileReport, RefusedReader};
use crate::shard::Shard;

/// How files are read when bytes are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// Chosen for each file by what of it is in the page cache and by what its file system can.
    #[default]
    Auto,
    /// Positional reads through the page cache.
    Buffered,
    /// Positional reads past the page cache, straight into place (`O_DIRECT`).
    Direct,
    /// As [`Reader::Direct`], with several requests of io_uring in flight for each read.
    ///
    /// As fast as [`Reader::Direct`] with fewer threads wherever we have measured, and no faster;
    /// so it is never chosen, only asked for.
    Uring,
}

/// From this share in the page cache on, copying from there is fastest.
pub(crate) const WARM: f64 = 0.9;
/// Below this share, asking the page cache about every read is not worth it.
const COLD: f64 = 0.1;
/// Smaller reads are over before it matters.
const SMALL_BYTES: u64 = 1 << 20;
/// What one thread maps of the page cache before a second one has begun.
const MAPPED_BYTES_PER_THREAD: u64 = 128 << 20;
/// Direct reads in flight with which all disks we know are near their best.
const DIRECT_THREADS: usize = 8;
/// The most threads that copy from the page cache: raw reads of 4.45 GB into fresh huge pages took
/// 0.40 s with 4 threads, 0.23 with 8 and 0.163 with 16, on the one machine with 16 cores that was
/// at hand.
const MOST_WARM_READERS: usize = 16;
/// Threads that keep rings busy, each with several requests in flight.
const URING_THREADS: usize = 2;

/// Asked for once: the answer is in several files of control groups.
static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// A shard as one load reads it.
pub(crate) struct Chosen {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) file: FileReport,
    /// Reads in flight to begin with.
    pub(crate) threads: usize,
    /// Whether more or fewer in flight may be faster: storage, not memory, is the limit.
    pub(crate) adapts: bool,
}

/// Asks each shard what would be chosen for it, and reads nothing.
///
/// # Errors
/// If a shard cannot be opened.
pub fn probe(
    plan: &Plan,
    shards: &[Shard],
    options: &LoadOptions,
) -> Result<Vec<FileReport>, Error> {
    let (wanted, readers) = (plan.bytes_of_shards(shards.len()), warm_readers(plan));
    let probe_one = |(shard, wanted): (&Shard, u64)| {
        let chosen = choose(shard, wanted, readers, options).map(Chosen::close);
        // As after a load, or a thousand shards would stay open.
        shard.storage().release();
        chosen.map_err(|error| Error::new(ErrorKind::Storage, error).with_path(shard.path()))
    };
    shards.iter().zip(wanted).map(probe_one).collect()
}

/// Threads that read a plan's files where they are in the page cache: as many as a device asks
/// for, or one for each core up to [`MOST_WARM_READERS`].
pub(crate) fn warm_readers(plan: &Plan) -> usize {
    let readers = plan.readers.unwrap_or_else(|| CORES.min(MOST_WARM_READERS));
    readers.max(1)
}

/// Chooses the reader for a shard of which `wanted` bytes will be read, by `readers` threads if
/// they are in the page cache.
pub(crate) fn choose(
    shard: &Shard,
    wanted: u64,
    readers: usize,
    options: &LoadOptions,
) -> io::Result<Chosen> {
    let storage = shard.storage();
    let mut chosen = Chosen {
        storage: Arc::clone(storage),
        file: FileReport::new(
            shard.path(),
            shard.format(),
            storage.len(),
            Some(storage.reader()),
        ),
        threads: readers,
        adapts: false,
    };
    let file = storage.as_local().map(LocalFile::file).transpose()?;
    let Some(file) = file.flatten() else {
        chosen.adapts = storage.as_slice().is_none();
        return Ok(chosen);
    };
    let cached = os::residency(&file, storage.len());
    chosen.file.cached_before = cached;
    let share = cached.map_or(0.0, |cached| cached.share());
    if options.mode == Mode::Map {
        let map = MapStorage::from_file(file)?;
        if map.len() != storage.len() {
            let (now, then) = (map.len(), storage.len());
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file has {now} bytes; it had {then} when it was opened"),
            ));
        }
        chosen.refuse(ReaderKind::Buffered, "a mapping was asked for");
        chosen.read_by(Arc::new(map));
        let helpers = usize::try_from(wanted / MAPPED_BYTES_PER_THREAD).unwrap_or(usize::MAX);
        (chosen.threads, chosen.adapts) = match share >= WARM {
            true => (helpers.clamp(1, chosen.threads), false),
            // The kernel reads ahead of one thread as far as the disk likes; more disturb that.
            false => (1, true),
        };
        // The mapping needs no descriptor.
        chosen.storage.release();
        storage.release();
        return Ok(chosen);
    }
    chosen.refuse(ReaderKind::Map, "not asked for: a mapping follows its file");
    let bypasses = options.page_cache == PageCache::Bypass;
    let why_not_direct = match options.reader {
        Reader::Buffered => Some("buffered reads were asked for".to_owned()),
        Reader::Direct | Reader::Uring => None,
        Reader::Auto if bypasses => None,
        Reader::Auto if wanted < SMALL_BYTES => {
            Some(format!("{wanted} bytes are read faster than it is opened"))
        }
        Reader::Auto if share >= WARM => {
            Some(format!("{:.0} % are in the page cache", share * 100.0))
        }
        Reader::Auto => None,
    };
    if let Some(why) = why_not_direct {
        chosen.adapts = share < WARM;
        chosen.refuse(ReaderKind::Direct, why);
        return Ok(chosen);
    }
    let in_part = options.reader == Reader::Auto && share >= COLD && !bypasses;
    match DirectStorage::new(Arc::clone(&file)) {
        Ok(direct) => {
            let why = match cached {
                _ if options.reader != Reader::Auto => "direct reads were asked for".to_owned(),
                _ if bypasses => "the page cache is to be bypassed".to_owned(),
                Some(_) => format!("{:.0} % are in the page cache", share * 100.0),
                None => "what is in the page cache is unknown".to_owned(),
            };
            let how = match in_part {
                true => "; what is there is taken from there",
                false => "",
            };
            chosen.refuse(ReaderKind::Buffered, format!("{why}{how}"));
            chosen.threads = DIRECT_THREADS;
            let direct = match options.reader {
                Reader::Uring => chosen.with_rings(direct, file)?,
                _ => direct,
            };
            chosen.read_by(Arc::new(match (in_part, bypasses) {
                (true, _) => direct.asking_cache(),
                (false, true) => direct.bypassing_cache(),
                (false, false) => direct,
            }));
        }
        Err(error) => chosen.refuse(ReaderKind::Direct, error.to_string()),
    }
    chosen.adapts = true;
    Ok(chosen)
}

impl Chosen {
    fn refuse(&mut self, reader: ReaderKind, why: impl Into<String>) {
        let why = why.into();
        self.file.refused.push(RefusedReader { reader, why });
    }

    /// As a refusal, unless it is known already.
    pub(crate) fn refuse_once(&mut self, reader: ReaderKind, why: &str) {
        if !self
            .file
            .refused
            .iter()
            .any(|other| other.reader == reader && other.why == why)
        {
            self.refuse(reader, why);
        }
    }

    /// Tells that a device read parts of the file itself.
    pub(crate) fn pulled_by_device(&mut self) {
        self.file.pulled_by_device = true;
    }

    /// Direct reads by io_uring, or without it where the kernel has none.
    fn with_rings(&mut self, direct: DirectStorage, file: Arc<File>) -> io::Result<DirectStorage> {
        match direct.by_uring() {
            Ok(uring) => {
                self.threads = URING_THREADS;
                Ok(uring)
            }
            Err(error) => {
                self.refuse(ReaderKind::Uring, error.to_string());
                DirectStorage::new(file)
            }
        }
    }

    fn read_by(&mut self, storage: Arc<dyn Storage>) {
        self.file.reader = Some(storage.reader());
        self.storage = storage;
    }

    /// The report, once the shard is read.
    pub(crate) fn close(mut self) -> FileReport {
        self.file.first_threads = self.threads;
        let runs = self.storage.reader();
        let began_as = self.file.reader.replace(runs);
        let why = self.storage.as_local().and_then(LocalFile::fallback);
        if let (Some(why), Some(began_as)) = (why.map(str::to_owned), began_as) {
            // What runs in the end was not refused after all.
            self.file.refused.retain(|other| other.reader != runs);
            self.refuse(began_as, why);
        }
        self.file
    }
}

impl std::str::FromStr for Reader {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Reader::Auto),
            "buffered" => Ok(Reader::Buffered),
            "direct" => Ok(Reader::Direct),
            "uring" => Ok(Reader::Uring),
            _ => Err(format!(
                "expected auto, buffered, direct or uring, found {name:?}"
            )),
        }
    }
}
