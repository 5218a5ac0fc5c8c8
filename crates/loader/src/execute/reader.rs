//! Which reader a shard gets, and why not another.

use std::fs::File;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tensorlift_storage::{DirectStorage, LocalFile, MapStorage, ReaderKind, Storage, os};
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::pace::Concurrency;
use crate::options::{LoadOptions, Mode, PageCache, Reader};
use crate::plan::Plan;
use crate::report::{FileReport, RefusedReader};
use crate::shard::Shard;

/// From this cached share on, copying from the page cache is fastest.
pub(super) const WARM_SHARE: f64 = 0.9;
/// Below this cached share, asking the page cache before every read does not pay.
const COLD_SHARE: f64 = 0.1;
/// For fewer bytes, opening the file a second time for direct reads costs more than it saves.
const DIRECT_FILE_BYTES: u64 = 1 << 20;
/// Bytes that one thread maps out of the page cache before a second one has started.
const MAPPED_BYTES_PER_THREAD: u64 = 128 << 20;
/// The number of direct reads in flight at which all measured disks are close to their peak.
const DIRECT_THREADS: usize = 8;
/// Threads that keep io_uring busy, each with several requests in flight.
const URING_THREADS: usize = 2;
/// The most threads that copy from the page cache: raw reads of 4.45 GB into fresh huge pages took
/// 0.40 s with 4 threads, 0.23 with 8 and 0.163 with 16, on one machine with 16 cores.
const MOST_WARM_READERS: usize = 16;

/// Asked once, since the answer is in several files of control groups.
static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// The reader of a shard in one load.
pub(super) struct ChosenReader {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) file: FileReport,
    pub(super) concurrency: Concurrency,
    opened: Instant,
}

/// Asks each shard which reader it would get, without reading it.
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
        let choice = choose(shard, wanted, readers, options).map(ChosenReader::into_report);
        // Released, since a thousand shards would stay open otherwise.
        shard.storage().release();
        choice.map_err(|error| Error::new(ErrorKind::Storage, error).with_path(shard.path()))
    };
    shards.iter().zip(wanted).map(probe_one).collect()
}

/// Threads that read a plan's files where they are in the page cache: as many as a device asks
/// for, or one for each core up to [`MOST_WARM_READERS`].
pub(super) fn warm_readers(plan: &Plan) -> usize {
    let readers = plan
        .readers
        .unwrap_or_else(|| (*CORES).min(MOST_WARM_READERS));
    readers.max(1)
}

/// Chooses the reader of a shard of which `wanted` bytes will be read, by `readers` threads if
/// they are in the page cache.
pub(super) fn choose(
    shard: &Shard,
    wanted: u64,
    readers: usize,
    options: &LoadOptions,
) -> io::Result<ChosenReader> {
    let mut choice = ChosenReader::as_opened(shard, readers);
    let file = shard
        .storage()
        .as_local()
        .map(LocalFile::file)
        .transpose()?;
    let Some(file) = file.flatten() else {
        choice.concurrency.adapts = shard.storage().as_slice().is_none();
        return Ok(choice);
    };
    choice.file.cached_before = os::residency(&file, shard.storage().len());
    match options.mode {
        Mode::Map => choice.map(shard, file, wanted)?,
        Mode::Copy => {
            choice.refuse(ReaderKind::Map, "not requested: a mapping follows its file");
            match why_buffered(&choice, wanted, options) {
                Some(why) => {
                    choice.concurrency.adapts = choice.cached_share() < WARM_SHARE;
                    choice.refuse(ReaderKind::Direct, why);
                }
                None => choice.read_directly(file, options)?,
            }
        }
    }
    Ok(choice)
}

/// Why direct reads do not pay for a shard; `None` where they do.
fn why_buffered(choice: &ChosenReader, wanted: u64, options: &LoadOptions) -> Option<String> {
    let share = choice.cached_share();
    match options.reader {
        Reader::Buffered => Some("buffered reads were requested".into()),
        Reader::Direct | Reader::Uring => None,
        Reader::Auto if options.page_cache == PageCache::Bypass => None,
        Reader::Auto if wanted < DIRECT_FILE_BYTES => Some(format!(
            "{wanted} bytes are too few: opening for O_DIRECT costs more than the read"
        )),
        Reader::Auto if share >= WARM_SHARE => {
            Some(format!("{:.0} % are in the page cache", share * 100.0))
        }
        Reader::Auto => None,
    }
}

impl ChosenReader {
    /// The storage as the caller opened it.
    fn as_opened(shard: &Shard, readers: usize) -> Self {
        let storage = shard.storage();
        Self {
            storage: Arc::clone(storage),
            file: FileReport::new(
                shard.path(),
                shard.format(),
                storage.len(),
                Some(storage.reader()),
            ),
            concurrency: Concurrency {
                threads: readers,
                adapts: false,
            },
            opened: Instant::now(),
        }
    }

    /// Logs what was chosen and what was refused.
    pub(super) fn log(&self) {
        let file = &self.file;
        let path = file.path.display();
        for refused in &file.refused {
            tracing::debug!(%path, reader = %refused.reader, why = refused.why, "reader refused");
        }
        tracing::debug!(
            %path,
            format = file.format,
            reader = file.reader.map(tracing::field::display),
            cached_share = file.cached_before.map(|cached| cached.share()),
            threads = self.concurrency.threads,
            "reader chosen",
        );
    }

    fn cached_share(&self) -> f64 {
        self.file.cached_before.map_or(0.0, |cached| cached.share())
    }

    /// Views of a mapping.
    fn map(&mut self, shard: &Shard, file: Arc<File>, wanted: u64) -> io::Result<()> {
        let map = MapStorage::from_file(file)?;
        if map.len() != shard.storage().len() {
            let (now, then) = (map.len(), shard.storage().len());
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file has {now} bytes; it had {then} when it was opened"),
            ));
        }
        self.refuse(ReaderKind::Buffered, "a mapping was requested");
        self.read_by(Arc::new(map));
        let helpers = usize::try_from(wanted / MAPPED_BYTES_PER_THREAD).unwrap_or(usize::MAX);
        self.concurrency = match self.cached_share() >= WARM_SHARE {
            true => Concurrency {
                threads: helpers.clamp(1, self.concurrency.threads),
                adapts: false,
            },
            // One sequential thread gets full read-ahead; more break it up.
            false => Concurrency {
                threads: 1,
                adapts: true,
            },
        };
        // The mapping needs no descriptor.
        self.storage.release();
        shard.storage().release();
        Ok(())
    }

    /// Reads past the page cache, where the file system supports that.
    fn read_directly(&mut self, file: Arc<File>, options: &LoadOptions) -> io::Result<()> {
        self.concurrency.adapts = true;
        let direct = match DirectStorage::new(Arc::clone(&file)) {
            Ok(direct) => direct,
            Err(error) => {
                self.refuse(ReaderKind::Direct, error.to_string());
                return Ok(());
            }
        };
        let bypasses = options.page_cache == PageCache::Bypass;
        let is_chosen = options.reader == Reader::Auto;
        let asks_cache = is_chosen && self.cached_share() >= COLD_SHARE && !bypasses;
        let why = match self.file.cached_before {
            _ if !is_chosen => "direct reads were requested".to_owned(),
            _ if bypasses => "the page cache is bypassed".to_owned(),
            Some(cached) => format!("{:.0} % are in the page cache", cached.share() * 100.0),
            None => "the system does not tell what is in the page cache".to_owned(),
        };
        let how = match asks_cache {
            true => "; cached parts are copied from there",
            false => "",
        };
        self.refuse(ReaderKind::Buffered, format!("{why}{how}"));
        self.concurrency.threads = DIRECT_THREADS;
        let direct = match options.reader {
            Reader::Uring => self.with_rings(direct, file)?,
            _ => direct,
        };
        self.read_by(Arc::new(match (asks_cache, bypasses) {
            (true, _) => direct.asking_cache(),
            (false, true) => direct.bypassing_cache(),
            (false, false) => direct,
        }));
        Ok(())
    }

    /// Direct reads by io_uring, or without it if the kernel lacks it.
    fn with_rings(&mut self, direct: DirectStorage, file: Arc<File>) -> io::Result<DirectStorage> {
        match direct.by_uring() {
            Ok(uring) => {
                self.concurrency.threads = URING_THREADS;
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

    fn refuse(&mut self, reader: ReaderKind, why: impl Into<String>) {
        let why = why.into();
        self.file.refused.push(RefusedReader { reader, why });
    }

    /// Records that a device refused to read the file itself, each reason once.
    pub(super) fn device_refused(&mut self, why: &str) {
        const DEVICE: ReaderKind = ReaderKind::Other("device");
        let mut refused = self.file.refused.iter();
        if !refused.any(|other| other.reader == DEVICE && other.why == why) {
            self.refuse(DEVICE, why);
        }
    }

    /// The report of a shard that was read to its last byte.
    pub(super) fn into_final_report(self) -> FileReport {
        let read = self.opened.elapsed();
        FileReport {
            read,
            ..self.into_report()
        }
    }

    /// The report of a shard that is not read, or not to its end.
    pub(super) fn into_report(mut self) -> FileReport {
        self.file.first_threads = self.concurrency.threads;
        let runs = self.storage.reader();
        let started_as = self.file.reader.replace(runs);
        let why = self.storage.as_local().and_then(LocalFile::fallback);
        if let (Some(why), Some(started_as)) = (why.map(str::to_owned), started_as) {
            // The reader that runs is not among the refused ones.
            self.file.refused.retain(|other| other.reader != runs);
            self.refuse(started_as, why);
        }
        self.file
    }
}
