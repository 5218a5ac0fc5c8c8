//! A zip assembler with access to every field, laid out like PyTorch's archives.
//!
//! [`ArchiveWriter`] streams honest archives of any size; [`RawArchive`] builds small ones whose
//! fields may lie. The `zip` crate cannot write the latter, and is the oracle for the former.

use std::io::{self, Write};

/// The method of entries whose bytes lie in the archive as they are.
pub const STORED: u16 = 0;
/// The method of raw deflate streams.
pub const DEFLATED: u16 = 8;
/// The flag of entries whose sizes follow their bytes.
pub const FLAG_DESCRIPTOR: u16 = 0x0008;
/// The flag of names in UTF-8.
pub const FLAG_UTF8: u16 = 0x0800;
/// The flag of encrypted entries.
pub const FLAG_ENCRYPTED: u16 = 0x0001;

const LIMIT: u64 = 0xffff_ffff;

/// The header of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The name in the archive.
    pub name: Vec<u8>,
    /// The general purpose flags.
    pub flags: u16,
    /// [`STORED`], [`DEFLATED`] or anything else.
    pub method: u16,
    /// The checksum of the bytes once inflated.
    pub crc32: u32,
    /// The length in the archive.
    pub compressed: u64,
    /// The length once inflated.
    pub size: u64,
    /// The position of the local header.
    pub offset: u64,
    /// The extra fields of this header; zip64 fields are added where they are needed.
    pub extra: Vec<u8>,
}

impl EntryHeader {
    /// The header of a stored entry of these bytes, at the start of the archive.
    #[must_use]
    pub fn stored(name: impl Into<Vec<u8>>, bytes: &[u8]) -> Self {
        Self {
            name: name.into(),
            flags: FLAG_UTF8,
            method: STORED,
            crc32: crc32fast::hash(bytes),
            compressed: bytes.len() as u64,
            size: bytes.len() as u64,
            offset: 0,
            extra: Vec::new(),
        }
    }

    /// The header before the bytes. With [`FLAG_DESCRIPTOR`] its sizes are 0, as PyTorch's are.
    #[must_use]
    pub fn local(&self) -> Vec<u8> {
        let behind = self.flags & FLAG_DESCRIPTOR != 0;
        let (crc32, compressed, size) = match behind {
            true => (0, 0, 0),
            false => (self.crc32, self.compressed, self.size),
        };
        let mut extra = Vec::new();
        if self.needs_zip64() {
            // Both sizes, in the form of this header.
            extra.extend_from_slice(&[1, 0, 16, 0]);
            extra.extend_from_slice(&size.to_le_bytes());
            extra.extend_from_slice(&compressed.to_le_bytes());
        }
        extra.extend_from_slice(&self.extra);
        let mut out = b"PK\x03\x04".to_vec();
        self.common(&mut out, crc32, compressed, size);
        out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
        out
    }

    /// The record after the bytes.
    #[must_use]
    pub fn descriptor(&self) -> Vec<u8> {
        let mut out = b"PK\x07\x08".to_vec();
        out.extend_from_slice(&self.crc32.to_le_bytes());
        for size in [self.compressed, self.size] {
            match self.needs_zip64() {
                true => out.extend_from_slice(&size.to_le_bytes()),
                false => out.extend_from_slice(&(size as u32).to_le_bytes()),
            }
        }
        out
    }

    /// The header in the directory.
    #[must_use]
    pub fn directory(&self) -> Vec<u8> {
        let mut zip64 = Vec::new();
        for value in [self.size, self.compressed, self.offset] {
            if value >= LIMIT {
                zip64.extend_from_slice(&value.to_le_bytes());
            }
        }
        let mut extra = Vec::new();
        if !zip64.is_empty() {
            extra.extend_from_slice(&[1, 0]);
            extra.extend_from_slice(&(zip64.len() as u16).to_le_bytes());
            extra.extend_from_slice(&zip64);
        }
        extra.extend_from_slice(&self.extra);
        let mut out = b"PK\x01\x02\0\0".to_vec();
        self.common(&mut out, self.crc32, self.compressed, self.size);
        out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        // No comment, disk 0, no attributes.
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&(self.offset.min(LIMIT) as u32).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
        out
    }

    /// The fields that both headers share, up to the length of the name.
    fn common(&self, out: &mut Vec<u8>, crc32: u32, compressed: u64, size: u64) {
        let version: u16 = if self.needs_zip64() { 45 } else { 0 };
        for field in [version, self.flags, self.method, 0, 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&crc32.to_le_bytes());
        for field in [compressed, size] {
            out.extend_from_slice(&(field.min(LIMIT) as u32).to_le_bytes());
        }
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
    }

    fn needs_zip64(&self) -> bool {
        self.size >= LIMIT || self.compressed >= LIMIT
    }
}

/// The records at the end of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRecords {
    /// How many entries the directory has.
    pub entries: u64,
    /// Where the directory begins.
    pub directory_offset: u64,
    /// How long it is.
    pub directory_size: u64,
    /// Whether the zip64 records are written, as PyTorch always does; they also are where a
    /// number asks for them.
    pub zip64: bool,
    /// Where the locator says that the zip64 record is, if not where it is.
    pub zip64_offset: Option<u64>,
    /// The comment of the archive.
    pub comment: Vec<u8>,
}

impl EndRecords {
    /// The records, for a position at `offset`.
    #[must_use]
    pub fn bytes(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let large =
            self.entries > 0xfffe || self.directory_offset >= LIMIT || self.directory_size >= LIMIT;
        if self.zip64 || large {
            out.extend_from_slice(b"PK\x06\x06");
            out.extend_from_slice(&44u64.to_le_bytes());
            out.extend_from_slice(&[0x1e, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for field in [
                self.entries,
                self.entries,
                self.directory_size,
                self.directory_offset,
            ] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            out.extend_from_slice(&self.zip64_offset.unwrap_or(offset).to_le_bytes());
            out.extend_from_slice(&1u32.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        for _ in 0..2 {
            out.extend_from_slice(&(self.entries.min(0xffff) as u16).to_le_bytes());
        }
        for field in [self.directory_size, self.directory_offset] {
            out.extend_from_slice(&(field.min(LIMIT) as u32).to_le_bytes());
        }
        out.extend_from_slice(&(self.comment.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.comment);
        out
    }
}

/// PyTorch's padding: an extra field that moves the bytes after the local header to a multiple of
/// `alignment`.
///
/// `behind_name` is where the extra fields begin.
#[must_use]
pub fn padding(behind_name: u64, alignment: u64) -> Vec<u8> {
    let alignment = alignment.max(1);
    let missing = (alignment - (behind_name + 4) % alignment) % alignment;
    let mut extra = b"FB".to_vec();
    extra.extend_from_slice(&(missing as u16).to_le_bytes());
    extra.resize(4 + missing as usize, b'Z');
    extra
}

/// The raw deflate stream of some bytes.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// Takes the bytes of an entry, piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Streams an archive as PyTorch writes it: sizes after the bytes, padding before them, zip64
/// records at the end.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    at: u64,
    alignment: u64,
    directory: Vec<u8>,
    entries: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive whose entries begin at multiples of `alignment`; 0 leaves padding out.
    pub fn new(out: W, alignment: u64) -> Self {
        Self {
            out,
            at: 0,
            alignment,
            directory: Vec::new(),
            entries: 0,
        }
    }

    /// Adds an entry of these bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn entry(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.stream(name, bytes.len() as u64, &mut |sink| sink(bytes))
    }

    /// Adds an entry of these bytes, compressed.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn deflated(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let compressed = deflate(bytes);
        let mut header = self.header(name, compressed.len() as u64);
        header.method = DEFLATED;
        header.size = bytes.len() as u64;
        header.crc32 = crc32fast::hash(bytes);
        self.put(&header.local())?;
        self.put(&compressed)?;
        self.close(&header)
    }

    /// Adds an entry of `size` bytes that `produce` writes in pieces.
    ///
    /// # Errors
    /// Those of the writer.
    ///
    /// # Panics
    /// If the pieces are not `size` bytes long together.
    pub fn stream(
        &mut self,
        name: &str,
        size: u64,
        produce: &mut dyn FnMut(&mut Sink<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut header = self.header(name, size);
        self.put(&header.local())?;
        let first = self.at;
        let mut crc32 = crc32fast::Hasher::new();
        produce(&mut |bytes| {
            crc32.update(bytes);
            self.put(bytes)
        })?;
        assert_eq!(self.at - first, size, "the declared size of {name:?}");
        header.crc32 = crc32.finalize();
        self.close(&header)
    }

    /// Writes the directory and returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let end = EndRecords {
            entries: self.entries,
            directory_offset: self.at,
            directory_size: self.directory.len() as u64,
            zip64: true,
            zip64_offset: None,
            comment: Vec::new(),
        };
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let end = end.bytes(self.at);
        self.put(&end)?;
        Ok(self.out)
    }

    fn header(&self, name: &str, compressed: u64) -> EntryHeader {
        let mut header = EntryHeader::stored(name, &[]);
        header.offset = self.at;
        header.compressed = compressed;
        header.size = compressed;
        // Empty entries have neither descriptor nor padding.
        if compressed > 0 {
            header.flags |= FLAG_DESCRIPTOR;
            if self.alignment > 0 {
                let behind_name = self.at + header.local().len() as u64;
                header.extra = padding(behind_name, self.alignment);
            }
        }
        header
    }

    fn close(&mut self, header: &EntryHeader) -> io::Result<()> {
        if header.flags & FLAG_DESCRIPTOR != 0 {
            self.put(&header.descriptor())?;
        }
        let mut listed = header.clone();
        listed.extra.clear();
        self.directory.extend_from_slice(&listed.directory());
        self.entries += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// An entry whose two headers and bytes need not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The header before the bytes, or `None` for an entry that only the directory knows.
    pub local: Option<EntryHeader>,
    /// The bytes in the archive.
    pub bytes: Vec<u8>,
    /// The record after the bytes.
    pub descriptor: Vec<u8>,
    /// The header in the directory, or `None` for an entry that the directory does not list.
    pub listed: Option<EntryHeader>,
    /// Whether the directory has the offset of `listed`, not that of the entry.
    pub lies_about_offset: bool,
}

impl RawEntry {
    /// An honest stored entry, as PyTorch writes it but for the padding.
    #[must_use]
    pub fn stored(name: impl Into<Vec<u8>>, bytes: &[u8]) -> Self {
        let mut header = EntryHeader::stored(name, bytes);
        header.flags |= FLAG_DESCRIPTOR;
        Self::of(header, bytes)
    }

    /// An honest deflated entry.
    #[must_use]
    pub fn deflated(name: impl Into<Vec<u8>>, bytes: &[u8]) -> Self {
        let compressed = deflate(bytes);
        let mut header = EntryHeader::stored(name, bytes);
        header.flags |= FLAG_DESCRIPTOR;
        header.method = DEFLATED;
        header.compressed = compressed.len() as u64;
        Self::of(header, &compressed)
    }

    /// An entry with this header in both places before these bytes.
    #[must_use]
    pub fn of(header: EntryHeader, bytes: &[u8]) -> Self {
        let behind = header.flags & FLAG_DESCRIPTOR != 0;
        Self {
            descriptor: if behind {
                header.descriptor()
            } else {
                Vec::new()
            },
            local: Some(header.clone()),
            bytes: bytes.to_vec(),
            listed: Some(header),
            lies_about_offset: false,
        }
    }

    /// Changes the header in the directory.
    #[must_use]
    pub fn listed_as(mut self, change: impl FnOnce(&mut EntryHeader)) -> Self {
        if let Some(listed) = &mut self.listed {
            let before = listed.offset;
            change(listed);
            self.lies_about_offset |= listed.offset != before;
        }
        self
    }

    /// Changes the header before the bytes.
    #[must_use]
    pub fn local_as(mut self, change: impl FnOnce(&mut EntryHeader)) -> Self {
        if let Some(local) = &mut self.local {
            change(local);
        }
        self
    }
}

/// A small archive whose fields may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawArchive {
    /// Bytes before the first entry.
    pub prefix: Vec<u8>,
    /// The entries.
    pub entries: Vec<RawEntry>,
    /// Bytes between the last entry and the directory.
    pub before_directory: Vec<u8>,
    /// Bytes after the end records.
    pub suffix: Vec<u8>,
}

impl RawArchive {
    /// The archive, its end records changed by `change`.
    #[must_use]
    pub fn bytes_with(&self, change: impl FnOnce(&mut EndRecords)) -> Vec<u8> {
        let mut out = self.prefix.clone();
        let mut directory = Vec::new();
        let mut entries = 0;
        for entry in &self.entries {
            let offset = out.len() as u64;
            if let Some(local) = &entry.local {
                out.extend_from_slice(&local.local());
            }
            out.extend_from_slice(&entry.bytes);
            out.extend_from_slice(&entry.descriptor);
            if let Some(listed) = &entry.listed {
                let mut listed = listed.clone();
                if !entry.lies_about_offset {
                    listed.offset = offset;
                }
                directory.extend_from_slice(&listed.directory());
                entries += 1;
            }
        }
        out.extend_from_slice(&self.before_directory);
        let mut end = EndRecords {
            entries,
            directory_offset: out.len() as u64,
            directory_size: directory.len() as u64,
            zip64: true,
            zip64_offset: None,
            comment: Vec::new(),
        };
        change(&mut end);
        out.extend_from_slice(&directory);
        let end = end.bytes(out.len() as u64);
        out.extend_from_slice(&end);
        out.extend_from_slice(&self.suffix);
        out
    }

    /// The archive.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with(|_| {})
    }
}
