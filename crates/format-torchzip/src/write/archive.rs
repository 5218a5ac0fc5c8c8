use std::fmt;
use std::io::{BufWriter, Seek, Write};

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::error::WriteError;
use super::output::{Output, WhileWanted};
use super::pickle;
use super::state_dict::StateDict;

/// The folder that all entries lie in; PyTorch takes any.
const ROOT: &str = "archive";
/// The alignment of storages in PyTorch's files, in bytes.
const ALIGNMENT: u16 = 64;
/// From this size on, an entry needs the wider fields of zip64.
const LARGE: u64 = u32::MAX as u64;
/// What a tensor's description can take in a pickle beside its name, in bytes: 64 dimensions of
/// two numbers of ten bytes, and some words.
const DESCRIPTION_BYTES: u64 = 2048;

/// A PyTorch file whose description is written and whose storages follow.
///
/// Dropped before [`finish`](Self::finish), it leaves a broken file.
pub struct ArchiveWriter<W: Write + Seek> {
    /// Dropped before the archive, which then writes nothing more.
    wanted: WhileWanted,
    archive: ZipWriter<Output<W>>,
    /// The length of each storage in bytes.
    storages: Vec<u64>,
    /// How many of them were begun.
    begun: usize,
    /// Bytes that the last one still needs.
    left: u64,
    contents: crc32fast::Hasher,
}

impl<W: Write + Seek> ArchiveWriter<W> {
    /// Writes the records that PyTorch 2.15 puts before the storages.
    pub(super) fn begin(state_dict: StateDict, out: W) -> Result<Self, WriteError> {
        let wanted = WhileWanted::default();
        let mut writer = Self {
            archive: ZipWriter::new(Output::new(out, &wanted)),
            wanted,
            storages: Vec::new(),
            begun: 0,
            left: 0,
            contents: crc32fast::Hasher::new(),
        };
        let names = state_dict.tensors.iter().map(|tensor| tensor.name.len());
        let most = names.fold(0, |sum: u64, len| {
            sum.saturating_add(len as u64 + DESCRIPTION_BYTES)
        });
        writer.start("data.pkl", most)?;
        let mut out = BufWriter::new(Tee {
            out: &mut writer.archive,
            hasher: &mut writer.contents,
        });
        pickle::write(&state_dict, &mut out)?;
        out.flush()?;
        drop(out);
        writer.record(".format_version", b"1")?;
        writer.record(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
        writer.record("byteorder", b"little")?;
        writer.storages = state_dict.storages;
        Ok(writer)
    }

    /// Writes the bytes of the next storage, in the order in which they were announced.
    ///
    /// # Errors
    /// As [`begin_storage`](Self::begin_storage) and [`write`](Self::write).
    pub fn write_storage(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let found = bytes.len() as u64;
        match self.storages.get(self.begun) {
            // Rejected before anything is written, so that the right bytes can follow.
            Some(&announced) if self.left == 0 && announced != found => {
                Err(WriteError::StorageSize {
                    storage: self.begun,
                    announced,
                    found,
                })
            }
            _ => {
                self.begin_storage()?;
                self.write(bytes)
            }
        }
    }

    /// Begins the next storage, in the order in which they were announced; its bytes follow by
    /// [`write`](Self::write).
    ///
    /// # Errors
    /// If there is none left, the one before is incomplete, or the output fails.
    pub fn begin_storage(&mut self) -> Result<(), WriteError> {
        if self.left > 0 {
            return Err(self.missized(self.storages[self.begun - 1] - self.left));
        }
        let Some(&announced) = self.storages.get(self.begun) else {
            return Err(self.miscounted(self.begun + 1));
        };
        self.start(&format!("data/{}", self.begun), announced)?;
        self.left = announced;
        self.begun += 1;
        Ok(())
    }

    /// Writes the next bytes of the storage that was begun last.
    ///
    /// # Errors
    /// If it was announced with fewer bytes, or the output refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            let begun = self.begun.checked_sub(1);
            let announced = begun.map_or(0, |storage| self.storages[storage]);
            return Err(self.missized(announced - self.left + bytes.len() as u64));
        };
        self.contents.update(bytes);
        self.archive.write_all(bytes)?;
        self.left = left;
        Ok(())
    }

    /// Writes the last records and the directory, and returns the output, not flushed.
    ///
    /// # Errors
    /// If a storage is missing, or the output refuses.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if self.left > 0 {
            return Err(self.missized(self.storages[self.begun - 1] - self.left));
        }
        if self.begun < self.storages.len() {
            return Err(self.miscounted(self.begun));
        }
        self.record("version", b"3\n")?;
        // Forty digits that tell files of other contents apart; PyTorch makes them of names and
        // checksums too, and only passes them on.
        let count = self.storages.len();
        let contents = self.contents.clone().finalize();
        self.record(
            ".data/serialization_id",
            format!("{count:020}{contents:020}").as_bytes(),
        )?;
        let Self {
            archive, wanted, ..
        } = self;
        let out = archive.finish().map_err(refused)?;
        drop(wanted);
        Ok(out.into_inner())
    }

    fn record(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.start(name, bytes.len() as u64)?;
        Ok(self.archive.write_all(bytes)?)
    }

    fn start(&mut self, name: &str, most_bytes: u64) -> Result<(), WriteError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(most_bytes >= LARGE);
        let path = format!("{ROOT}/{name}");
        self.archive.start_file(path, options).map_err(refused)
    }

    /// The storage that was begun last has `found` bytes, and should have others.
    fn missized(&self, found: u64) -> WriteError {
        let storage = self.begun.saturating_sub(1);
        WriteError::StorageSize {
            storage,
            announced: self.storages.get(storage).copied().unwrap_or_default(),
            found,
        }
    }

    fn miscounted(&self, found: usize) -> WriteError {
        WriteError::StorageCount {
            announced: self.storages.len(),
            found,
        }
    }
}

fn refused(error: ZipError) -> WriteError {
    match error {
        ZipError::Io(error) => error.into(),
        error => WriteError::Archive(error.into()),
    }
}

impl<W: Write + Seek> fmt::Debug for ArchiveWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveWriter")
            .field("storages", &self.storages.len())
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

/// Hashes what it passes on.
struct Tee<'a, W> {
    out: W,
    hasher: &'a mut crc32fast::Hasher,
}

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
