//! The alternatives that options choose between, and their names on command lines.

use std::str::FromStr;

use serde::Serialize;

/// Whether tensors are copies of the file's bytes or views of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// Bytes are copied into memory that belongs to this process. The default.
    #[default]
    Copy,
    /// Tensors are views of a populated, read-only mapping: every page is in memory before the
    /// load returns.
    ///
    /// The fastest load of a file in the page cache, without further memory; but a mapping follows
    /// its file (see [`MapStorage`](tensorlift_storage::MapStorage)).
    /// Tensors that are not aligned for their dtype in the file are copied anyway.
    Map,
}

/// What is checked while bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verify {
    /// Nothing. The default: some versions of PyTorch write wrong checksums and never check them;
    /// safetensors files have none.
    #[default]
    Nothing,
    /// The CRC-32 of each record that an archive declares one for, if the whole record is read.
    Crc32,
}

/// How files are read when bytes are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reader {
    /// Chosen for each file by what of it is in the page cache and by what its file system
    /// supports. The default.
    #[default]
    Auto,
    /// Positional reads through the page cache.
    Buffered,
    /// Positional reads past the page cache, straight into place (`O_DIRECT`).
    Direct,
    /// As [`Reader::Direct`], with several requests of io_uring in flight for each read.
    ///
    /// As fast as [`Reader::Direct`] with fewer threads wherever we have measured, and no faster,
    /// so [`Reader::Auto`] never chooses it.
    Uring,
}

/// The effect of a copying load on the page cache.
///
/// A mapping is part of the page cache, so [`Mode::Map`] leaves its pages there.
/// The pages of headers and directories that were read before the load stay too, except with
/// [`PageCache::DropAfter`].
/// Pages of files in memory (tmpfs), pages that other processes map and dirty pages always stay:
/// the kernel does not drop them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PageCache {
    /// Keeps the pages that the reader leaves. The default.
    #[default]
    Keep,
    /// Drops all pages of a shard once its last byte is in place, including those that were there
    /// before.
    DropAfter,
    /// Leaves the page cache unchanged: files are read past it, even if that is slower.
    ///
    /// If that is impossible (the file system has no direct reads, or buffered reads were
    /// requested), files that were almost fully cached stay, and others are dropped as with
    /// [`PageCache::DropAfter`].
    Bypass,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "copy" => Ok(Mode::Copy),
            "map" => Ok(Mode::Map),
            _ => Err(format!("expected copy or map, found {name:?}")),
        }
    }
}

impl FromStr for Reader {
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

impl FromStr for PageCache {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "keep" => Ok(PageCache::Keep),
            "drop-after" => Ok(PageCache::DropAfter),
            "bypass" => Ok(PageCache::Bypass),
            _ => Err(format!(
                "expected keep, drop-after or bypass, found {name:?}"
            )),
        }
    }
}
