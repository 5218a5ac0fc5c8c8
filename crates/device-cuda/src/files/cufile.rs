//! Reads by cuFile: into a buffer on the device, whole pages of the file at a time, and from there
//! to where the runs say.
//!
//! The detour costs nothing beside the read, as device memory is far faster than any storage, and
//! it solves alignment: cuFile gets aligned reads, and copies on the device move tensors that are
//! unaligned in the file.
//!
//! cuFile is not trusted: systems that announce it refuse reads, or fail after a while. The first
//! reads of each file are compared with ordinary ones, and a file that once failed is not tried
//! again.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tensorlift_device::{CopyRun, Pull, Pulled};

use super::per_file::{PerFile, lock};
use super::reach;
use crate::driver::cufile::{ALIGNMENT, CuFile, CuFileError, DeviceBuffer, RegisteredFile};
use crate::driver::{Allocation, Context, Stream};
use crate::{Gds, GdsReport};

/// Device buffers for reads under way at once. With the default size of 2 MiB they take 16 MiB of
/// device memory, which fills the queues of current drives.
const MOST_BUFFERS: usize = 8;
/// Reads of each file that are compared.
const PROOFS: u32 = 2;

/// The files that are read by cuFile, and its buffers.
#[derive(Debug)]
pub(crate) struct Files {
    mode: Gds,
    buffer_bytes: usize,
    /// Whether the system lets cuFile reach storage.
    worthwhile: OnceLock<bool>,
    /// cuFile or why it is not used, and how long opening it took.
    cufile: OnceLock<(Result<&'static CuFile, String>, Duration)>,
    open: PerFile<Mutex<FileState>>,
    buffers: Mutex<Buffers>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
enum FileState {
    #[default]
    New,
    /// This many reads are still to be compared.
    Good(Arc<RegisteredFile>, u32),
    Refused(String),
}

#[derive(Debug, Default)]
struct Buffers {
    free: Vec<DeviceBuffer>,
    lent: usize,
}

/// Why a read was refused; the file is not tried again.
enum Refusal {
    CuFile(CuFileError),
    Text(String),
}

impl<E: Into<CuFileError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::CuFile(error.into())
    }
}

impl Files {
    pub(crate) fn new(mode: Gds, buffer_bytes: usize) -> Self {
        Self {
            mode,
            buffer_bytes,
            worthwhile: OnceLock::new(),
            cufile: OnceLock::new(),
            open: PerFile::default(),
            buffers: Mutex::default(),
            given_back: Condvar::new(),
        }
    }

    /// The state of cuFile so far; this does not open it.
    pub(crate) fn report(&self) -> GdsReport {
        match self.cufile.get() {
            None => GdsReport::NotAsked,
            Some((Ok(_), took)) => GdsReport::Opened { took: *took },
            Some((Err(reason), took)) => GdsReport::Refused {
                reason: reason.clone(),
                took: *took,
            },
        }
    }

    /// Whether files may be read by cuFile; this does not open it.
    pub(crate) fn pulls(&self) -> bool {
        match self.mode {
            Gds::On => true,
            Gds::Off => false,
            Gds::Auto => *self.worthwhile.get_or_init(|| reach::system().is_some()),
        }
    }

    /// Opens cuFile when it is first needed, since that takes longer than most loads.
    fn look(&self, context: &Context) -> &(Result<&'static CuFile, String>, Duration) {
        self.cufile.get_or_init(|| {
            let begun = Instant::now();
            (self.open_cufile(context), begun.elapsed())
        })
    }

    fn open_cufile(&self, context: &Context) -> Result<&'static CuFile, String> {
        let cufile = CuFile::get(context).map_err(|error| error.to_string())?;
        match cufile.reaches_storage() {
            Ok(false) if self.mode == Gds::Auto => {
                Err("cuFile reaches no storage directly and would copy through the host".into())
            }
            Ok(_) => Ok(cufile),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Why a file of a group is not read by cuFile, without asking cuFile.
    fn refuses(&self, memory: &Allocation, file: &File) -> Result<(), String> {
        match self.mode {
            Gds::Off => Err("switched off".into()),
            Gds::On => Ok(()),
            Gds::Auto if memory.len() < reach::LEAST_BYTES => {
                Err("the load is too small to open cuFile for it".into())
            }
            Gds::Auto => reach::file(file),
        }
    }

    /// Reads into a group, and waits.
    pub(crate) fn pull(
        &self,
        memory: &Arc<Allocation>,
        stream: &Arc<Stream>,
        pull: &Pull<'_>,
    ) -> Pulled {
        if pull.len > self.buffer_bytes {
            let reason = format!("reads are of at most {} bytes", self.buffer_bytes);
            return Pulled::Refused(reason.into());
        }
        let state = match self.open.of(memory, pull.file) {
            Ok(state) => state,
            Err(error) => return Pulled::Refused(error.to_string().into()),
        };
        // Only the first reads of a file hold this lock while they run.
        let mut guard = lock(&state);
        if let FileState::New = *guard {
            let allowed = self.refuses(memory, pull.file);
            let cufile = allowed.and_then(|()| self.look(memory.context()).0.clone());
            let opened = cufile.and_then(|cufile| {
                let file = RegisteredFile::new(cufile, pull.file);
                file.map_err(|error| error.to_string())
            });
            *guard = match opened {
                Ok(file) => FileState::Good(Arc::new(file), PROOFS),
                Err(reason) => FileState::Refused(reason),
            };
        }
        let (file, proofs) = match &*guard {
            FileState::Good(file, proofs) => (Arc::clone(file), *proofs),
            FileState::Refused(reason) => return Pulled::Refused(Cow::Owned(reason.clone())),
            FileState::New => return Pulled::Refused("not registered".into()),
        };
        let first = match proofs {
            0 => {
                drop(guard);
                None
            }
            _ => Some(guard),
        };
        let fetched = self.fetch(&file, memory, stream, pull, first.is_some());
        let mut guard = first.unwrap_or_else(|| lock(&state));
        match fetched {
            Ok(()) => {
                if let FileState::Good(_, proofs @ 1..) = &mut *guard {
                    *proofs -= 1;
                }
                Pulled::Done
            }
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::CuFile(error) => error.to_string(),
                    Refusal::Text(reason) => reason,
                };
                *guard = FileState::Refused(reason.clone());
                Pulled::Refused(reason.into())
            }
        }
    }

    fn fetch(
        &self,
        file: &RegisteredFile,
        memory: &Arc<Allocation>,
        stream: &Arc<Stream>,
        pull: &Pull<'_>,
        compare: bool,
    ) -> Result<(), Refusal> {
        let start = pull.offset / ALIGNMENT * ALIGNMENT;
        let head = (pull.offset - start) as usize;
        let (permit, free) = self.permit();
        let mut buffer = match free {
            Some(buffer) => buffer,
            // A page more at either end, for reads that begin and end within one.
            None => {
                let len = self.buffer_bytes + 2 * ALIGNMENT as usize;
                DeviceBuffer::new(file.cufile(), stream, len)?
            }
        };
        file.read(&mut buffer, start, head + pull.len)?;
        if compare {
            prove(buffer.memory(), head, pull)?;
        }
        let runs: Vec<_> = (pull.runs.iter())
            .map(|run| CopyRun {
                from: head + run.from,
                ..*run
            })
            .collect();
        memory.take_runs(buffer.memory(), &runs, stream)?;
        // A buffer of a failed read is not used again.
        lock(&self.buffers).free.push(buffer);
        drop(permit);
        Ok(())
    }

    /// The right to a device buffer, once one is free, and an existing one if any.
    fn permit(&self) -> (Permit<'_>, Option<DeviceBuffer>) {
        let mut buffers = lock(&self.buffers);
        while buffers.lent == MOST_BUFFERS {
            let woken = self.given_back.wait(buffers);
            buffers = woken.unwrap_or_else(PoisonError::into_inner);
        }
        buffers.lent += 1;
        (Permit { files: self }, buffers.free.pop())
    }

    /// Closes the files that only this group read, and frees the buffers when no file is left.
    pub(crate) fn release(&self, memory: &Arc<Allocation>) {
        if self.open.release(memory) {
            lock(&self.buffers).free.clear();
        }
    }
}

/// The right to one device buffer.
struct Permit<'a> {
    files: &'a Files,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.files.buffers).lent -= 1;
        self.files.given_back.notify_one();
    }
}

/// Compares what cuFile read with what the file holds.
fn prove(found: &Allocation, head: usize, pull: &Pull<'_>) -> Result<(), Refusal> {
    let mut bytes = vec![0; pull.len];
    found.download(head, &mut bytes)?;
    let mut expected = vec![0; pull.len];
    read_exact(pull.file, &mut expected, pull.offset)
        .map_err(|error| Refusal::Text(format!("a read to compare with failed: {error}")))?;
    match bytes.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(Refusal::Text(format!(
            "cuFile read other bytes than the file has, from {} on",
            pull.offset + at as u64
        ))),
    }
}

fn read_exact(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}
