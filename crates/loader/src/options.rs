use std::sync::Arc;

use serde::Serialize;

use crate::budget::Budget;
use crate::page_cache::PageCache;
use crate::reader::Reader;

/// Where the host's view of the bytes comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Bytes are copied into memory that belongs to this process. The default.
    #[default]
    Copy,
    /// Tensors are views of a populated, read-only mapping: every page is in memory before the
    /// load returns.
    ///
    /// The fastest load of a file in the page cache, at no memory beyond it; but a mapping
    /// follows its file (see [`MapStorage`](tensorlift_storage::MapStorage)).
    /// Tensors that are not aligned for their dtype in the file are copied all the same.
    Map,
}

/// What is checked while bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Nothing. The default: PyTorch can write archives whose sums are none, and never checks
    /// them itself; safetensors files have none.
    #[default]
    Nothing,
    /// The CRC-32 of each record that an archive declares one for, and that is read whole.
    Crc32,
}

/// What [`plan`](crate::plan()) decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// See [`LoadOptions::mode`].
    pub mode: Mode,
    /// See [`LoadOptions::merge_gap_bytes`].
    pub merge_gap_bytes: u64,
}

/// What a load can be told; the defaults suit local disks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Copy bytes, or view a populated mapping. Default: [`Mode::Copy`].
    pub mode: Mode,
    /// How files are read when bytes are copied. Default: chosen for each file.
    pub reader: Reader,
    /// What is checked while reading. Default: [`Verify::Nothing`].
    pub verify: Verify,
    /// What the load leaves in the page cache. Default: [`PageCache::Keep`].
    pub page_cache: PageCache,
    /// Threads that read at once. More hide the latency of slow storage; fewer leave the cores to
    /// others. Default: begins with what the reader is known to like, and adapts to what it
    /// measures.
    pub read_threads: Option<usize>,
    /// Bytes of one read. Larger ones cost fewer calls; smaller ones spread better over threads
    /// and are the steps of progress and cancellation. Default: 4 MiB.
    pub chunk_bytes: usize,
    /// Unwanted bytes between two wanted ones that are read along, to save a read of its own.
    /// They take memory as long as their neighbours live. Default: 64 KiB.
    pub merge_gap_bytes: u64,
    /// The most memory that the load may allocate for tensors, in bytes; staging slots belong to
    /// their device and count for [`BudgetLimits`](crate::BudgetLimits) alone. Default: what the
    /// devices have free.
    pub memory_bytes: Option<u64>,
    /// What the load shares with others. Default: [`Budget::process`].
    pub budget: Option<Arc<Budget>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Copy,
            reader: Reader::Auto,
            verify: Verify::Nothing,
            page_cache: PageCache::Keep,
            read_threads: None,
            chunk_bytes: 4 << 20,
            merge_gap_bytes: 64 << 10,
            memory_bytes: None,
            budget: None,
        }
    }
}

impl LoadOptions {
    /// Sets [`mode`](Self::mode).
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets [`reader`](Self::reader).
    #[must_use]
    pub const fn reader(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
    }

    /// Sets [`verify`](Self::verify).
    #[must_use]
    pub const fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Sets [`page_cache`](Self::page_cache).
    #[must_use]
    pub const fn page_cache(mut self, page_cache: PageCache) -> Self {
        self.page_cache = page_cache;
        self
    }

    /// Sets [`read_threads`](Self::read_threads); at least 1 is used.
    #[must_use]
    pub const fn read_threads(mut self, threads: usize) -> Self {
        self.read_threads = Some(threads);
        self
    }

    /// Sets [`chunk_bytes`](Self::chunk_bytes); at least 4,096 are used.
    #[must_use]
    pub const fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// Sets [`merge_gap_bytes`](Self::merge_gap_bytes).
    #[must_use]
    pub const fn merge_gap_bytes(mut self, bytes: u64) -> Self {
        self.merge_gap_bytes = bytes;
        self
    }

    /// Sets [`memory_bytes`](Self::memory_bytes).
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Sets [`budget`](Self#structfield.budget).
    #[must_use]
    pub fn budget(mut self, budget: Arc<Budget>) -> Self {
        self.budget = Some(budget);
        self
    }

    pub(crate) fn shared_budget(&self) -> Arc<Budget> {
        self.budget.clone().unwrap_or_else(Budget::process)
    }

    /// The part that planning needs.
    #[must_use]
    pub const fn planning(&self) -> PlanOptions {
        PlanOptions {
            mode: self.mode,
            merge_gap_bytes: self.merge_gap_bytes,
        }
    }
}

impl Default for PlanOptions {
    fn default() -> Self {
        LoadOptions::default().planning()
    }
}
