//! Device memory that is freed once nothing can access it.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use tensorlift_device::CopyRun;

use super::call::{CallError, check, note};
use super::caller::CallerMemory;
use super::context::Context;
use super::stream::Stream;

/// One allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    address: CUdeviceptr,
    len: usize,
    /// For copies out of it and within it.
    stream: Arc<Stream>,
    /// Whether its address was handed out, so that unknown streams may read it.
    exposed: AtomicBool,
    /// Whether another owner frees it.
    handed_over: AtomicBool,
    /// The owner of memory that belongs to the caller.
    owner: Option<Arc<dyn Any + Send + Sync>>,
    /// The first copy into it that failed.
    failure: OnceLock<CallError>,
}

impl Allocation {
    /// Allocates; when it returns, every stream may use the memory.
    ///
    /// Not from a pool of the device: `cuMemAllocAsync` and the wait for its stream took 6 to 16 ms
    /// on an H100, whatever the size, and `cuMemAlloc` of 4.5 GB 0.2.
    pub(crate) fn new(stream: &Arc<Stream>, len: usize) -> Result<Self, CallError> {
        let _bound = stream.context().bind()?;
        let address = match len {
            // The driver rejects empty allocations.
            0 => 0,
            // SAFETY: nobody reads the memory before the copies into it are done.
            _ => check("cuMemAlloc", unsafe { result::malloc_sync(len) })?,
        };
        Ok(Self {
            address,
            len,
            stream: Arc::clone(stream),
            exposed: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            owner: None,
            failure: OnceLock::new(),
        })
    }

    /// Memory of the caller's, once it may be written to.
    pub(crate) fn of_caller(stream: &Arc<Stream>, memory: CallerMemory) -> Result<Self, CallError> {
        memory.wait(stream.context())?;
        Ok(Self {
            address: memory.address,
            len: memory.len,
            stream: Arc::clone(stream),
            exposed: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            owner: Some(memory.owner),
            failure: OnceLock::new(),
        })
    }

    /// Whether it is the caller's, and never freed here.
    pub(crate) fn is_callers(&self) -> bool {
        self.owner.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.stream.context()
    }

    /// The stream for copies out of it and within it.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The address for readers on their own streams; 0 for empty memory.
    pub(crate) fn expose(&self) -> CUdeviceptr {
        self.exposed.store(true, Ordering::Release);
        self.address
    }

    /// The address for copies that end before the memory does.
    pub(super) fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// Passes freeing to another owner.
    pub(super) fn hand_over(&self) -> CUdeviceptr {
        self.handed_over.store(true, Ordering::Release);
        self.address
    }

    /// Whether `len` bytes from `start` on are inside.
    pub(crate) fn holds(&self, start: usize, len: usize) -> bool {
        start.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Copies bytes from `start` on to the host.
    ///
    /// # Panics
    /// If they are not inside: callers check.
    pub(crate) fn download(&self, start: usize, to: &mut [u8]) -> Result<(), CallError> {
        assert!(self.holds(start, to.len()), "bytes inside the memory");
        if to.is_empty() {
            return Ok(());
        }
        let _bound = self.context().bind()?;
        let from = self.address + start as u64;
        // SAFETY: the source is inside this memory, which lives as long as `self`; the target is
        // borrowed until the stream is drained, below, whatever the call returns.
        let copied = unsafe { result::memcpy_dtoh_async(to, from, self.stream.raw()) };
        let drained = self.stream.drain();
        check("cuMemcpyDtoHAsync", copied).and(drained)
    }

    /// Copies runs out of other memory of the same device, and waits.
    ///
    /// # Panics
    /// If they are not inside both: callers check.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn take_runs(
        &self,
        from: &Allocation,
        runs: &[CopyRun],
        on: &Stream,
    ) -> Result<(), CallError> {
        let _bound = self.context().bind()?;
        let copy = |run: &CopyRun| {
            assert!(
                self.holds(run.to, run.len) && from.holds(run.from, run.len),
                "runs inside the memory"
            );
            let (to, from) = (self.address + run.to as u64, from.address + run.from as u64);
            // SAFETY: both ends are inside memory that lives until the stream is drained, below.
            let copied = unsafe { result::memcpy_dtod_async(to, from, run.len, on.raw()) };
            check("cuMemcpyDtoDAsync", copied)
        };
        let copied = runs.iter().filter(|run| run.len > 0).try_for_each(copy);
        let drained = on.drain();
        copied.and(drained)
    }

    /// Keeps the first failure of a copy into it.
    pub(super) fn fail(&self, error: CallError) {
        let _first = self.failure.set(error);
    }

    /// The result of the copies that were waited for so far.
    pub(crate) fn outcome(&self) -> Result<(), CallError> {
        self.failure.get().cloned().map_or(Ok(()), Err)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let stays = self.is_callers() || self.handed_over.load(Ordering::Acquire);
        if self.address == 0 || stays {
            return;
        }
        let _bound = self.context().bind_anyhow();
        if self.exposed.load(Ordering::Acquire) {
            note(self.context().synchronize());
        }
        // SAFETY: allocated in `new`, freed once. Copies into it are done: each lane holds an `Arc`
        // of the memory, and other copies here wait before they return. Foreign readers were
        // waited for above.
        let freed = unsafe { result::free_sync(self.address) };
        note(check("cuMemFree", freed));
    }
}
