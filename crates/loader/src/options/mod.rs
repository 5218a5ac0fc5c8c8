mod choices;

use std::sync::Arc;

use crate::budget::Budget;
use crate::dtype::DtypePolicy;
use crate::hash::HashRange;

pub use choices::{Mode, PageCache, Reader, Verify};

/// The options of a load; the defaults suit local disks.
///
/// [`plan`](crate::plan()) respects [`mode`](Self#structfield.mode),
/// [`merge_gap_bytes`](Self#structfield.merge_gap_bytes), [`row_major`](Self#structfield.row_major)
/// and [`dtype`](Self#structfield.dtype); the others concern execution.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Copy bytes, or view a populated mapping. Default: [`Mode::Copy`].
    pub mode: Mode,
    /// How files are read when bytes are copied. Default: chosen for each file.
    pub reader: Reader,
    /// What is checked while reading. Default: [`Verify::Nothing`].
    pub verify: Verify,
    /// Bytes to hash while they are read, and what their hashes must be. All bytes of these ranges
    /// are read: those of whole files with their headers, and tensors that are not selected. A
    /// hash that is not as expected fails the load. Default: none.
    pub hashes: Arc<[HashRange]>,
    /// What the load leaves in the page cache. Default: [`PageCache::Keep`].
    pub page_cache: PageCache,
    /// Threads that read at once. More hide the latency of slow storage; fewer leave the cores to
    /// others. Default: starts with the reader's preferred number and adapts to the measured rates.
    pub read_threads: Option<usize>,
    /// Bytes of one read. Larger ones cost fewer calls; smaller ones spread better over threads
    /// and are the steps of progress and cancellation. Default: 4 MiB.
    pub chunk_bytes: usize,
    /// The largest gap of unwanted bytes between two tensors that is read along with them, to save
    /// a separate read. It takes memory until its neighbours are dropped. Default: 64 KiB.
    pub merge_gap_bytes: u64,
    /// Whether strided tensors arrive with their elements in row-major order, without the bytes
    /// between them. Default: no; they arrive as they are stored, and views of one storage keep
    /// sharing it.
    pub row_major: bool,
    /// Whether [`load_into`](crate::load_into) fails, before the first byte is read, if a parameter
    /// is missing from the checkpoint or a selected tensor has no parameter. Default: no, the
    /// result lists both.
    pub strict: bool,
    /// The most memory of tensors that [`load_each`](crate::load_each) has read but not passed on
    /// yet, in bytes; a larger tensor is read alone. Larger windows overlap reading and handling
    /// better. Default: 256 MiB.
    pub window_bytes: u64,
    /// The dtypes of floating-point tensors once loaded. They are converted chunk by chunk on the
    /// host; with staging slots, narrowing happens before the copy to the device. Default: those of
    /// the files.
    pub dtype: DtypePolicy,
    /// The most memory that the load may allocate for tensors, in bytes; staging buffers count
    /// towards [`BudgetLimits`](crate::BudgetLimits) instead. Default: the free memory of the
    /// devices.
    pub memory_bytes: Option<u64>,
    /// The budget that the load shares with others. Default: [`Budget::process`].
    pub budget: Option<Arc<Budget>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Copy,
            reader: Reader::Auto,
            verify: Verify::Nothing,
            hashes: Arc::default(),
            page_cache: PageCache::Keep,
            read_threads: None,
            chunk_bytes: 4 << 20,
            merge_gap_bytes: 64 << 10,
            row_major: false,
            strict: false,
            window_bytes: 256 << 20,
            dtype: DtypePolicy::Keep,
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

    /// Sets [`hashes`](Self::hashes).
    #[must_use]
    pub fn hashes(mut self, ranges: impl Into<Arc<[HashRange]>>) -> Self {
        self.hashes = ranges.into();
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

    /// Sets [`row_major`](Self::row_major).
    #[must_use]
    pub const fn row_major(mut self, row_major: bool) -> Self {
        self.row_major = row_major;
        self
    }

    /// Sets [`strict`](Self::strict).
    #[must_use]
    pub const fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets [`window_bytes`](Self::window_bytes).
    #[must_use]
    pub const fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets [`dtype`](Self::dtype).
    #[must_use]
    pub fn dtype(mut self, dtype: DtypePolicy) -> Self {
        self.dtype = dtype;
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
}
