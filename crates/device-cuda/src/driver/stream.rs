//! Streams and events that are destroyed when they are dropped.

use std::ffi::c_uint;
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::driver::result::{event, stream};
use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUstream};

use super::call::{CallError, check, note};
use super::context::Context;

/// A stream that the default stream does not wait for.
#[derive(Debug)]
pub(crate) struct Stream {
    context: Arc<Context>,
    raw: CUstream,
}

// SAFETY: streams may be used from any thread; the driver locks.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Arc<Self>, CallError> {
        let _bound = context.bind()?;
        let raw = stream::create(stream::StreamKind::NonBlocking);
        Ok(Arc::new(Self {
            raw: check("cuStreamCreate", raw)?,
            context: Arc::clone(context),
        }))
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Waits until all that was enqueued is done.
    pub(crate) fn synchronize(&self) -> Result<(), CallError> {
        let _bound = self.context.bind()?;
        // SAFETY: the stream lives as long as `self`.
        check("cuStreamSynchronize", unsafe {
            stream::synchronize(self.raw)
        })
    }

    /// Waits as [`synchronize`](Self::synchronize) does, and if that fails, for the whole device.
    ///
    /// When it returns, nothing enqueued runs any more: either the driver said that all is done,
    /// or it has failed twice to wait, which it does only for a context that is dead.
    pub(super) fn drain(&self) -> Result<(), CallError> {
        self.synchronize().or_else(|error| {
            let whole = self.context.synchronize();
            whole
                .or_else(|_| self.context.synchronize())
                .and(Err(error))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _bound = self.context.bind_anyhow();
        // SAFETY: created in `new`, destroyed once.
        note(check("cuStreamDestroy", unsafe {
            stream::destroy(self.raw)
        }));
    }
}

/// A mark in a stream that the host can wait for.
#[derive(Debug)]
pub(crate) struct Event {
    context: Arc<Context>,
    raw: CUevent,
}

// SAFETY: events may be used from any thread; the driver locks.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, CallError> {
        // Without timing, which costs; a waiting thread sleeps, since readers need the core.
        const FLAGS: c_uint = CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint
            | CUevent_flags::CU_EVENT_BLOCKING_SYNC as c_uint;
        let _bound = context.bind()?;
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to room for an event; cudarc's own call cannot combine flags.
        let created = unsafe { sys::cuEventCreate(raw.as_mut_ptr(), FLAGS) };
        check("cuEventCreate", created.result())?;
        Ok(Self {
            // SAFETY: the call succeeded, so it wrote the event.
            raw: unsafe { raw.assume_init() },
            context: Arc::clone(context),
        })
    }

    /// Marks where the stream is; the context is current to this thread.
    pub(crate) fn record(&self, on: &Stream) -> Result<(), CallError> {
        // SAFETY: both live, and belong to one context.
        check("cuEventRecord", unsafe { event::record(self.raw, on.raw) })
    }

    /// Waits until the stream has reached the mark; the context is current to this thread.
    pub(crate) fn synchronize(&self) -> Result<(), CallError> {
        // SAFETY: the event lives as long as `self`.
        check("cuEventSynchronize", unsafe {
            event::synchronize(self.raw)
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _bound = self.context.bind_anyhow();
        // SAFETY: created in `new`, destroyed once.
        note(check("cuEventDestroy", unsafe { event::destroy(self.raw) }));
    }
}
