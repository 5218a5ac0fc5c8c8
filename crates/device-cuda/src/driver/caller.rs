//! Device memory that belongs to the caller.

use std::any::Any;
use std::sync::Arc;

use cudarc::driver::result::{event, stream};
use cudarc::driver::sys::{CUdeviceptr, CUevent, CUstream};

use super::call::{CallError, check};
use super::context::Context;

/// Device memory that an engine already holds, to be filled again at the same addresses: after a
/// sleep, for new weights of the same model, or for another model in its place.
///
/// [`CudaDevice::group_in`](crate::CudaDevice::group_in) makes a group of it.
#[derive(Debug)]
pub struct CallerMemory {
    pub(super) address: CUdeviceptr,
    pub(super) len: usize,
    pub(super) owner: Arc<dyn Any + Send + Sync>,
    after: After,
}

/// What must be done before the memory may be written to.
#[derive(Debug)]
enum After {
    Nothing,
    Stream(CUstream),
    Event(CUevent),
}

impl CallerMemory {
    /// The `len` bytes from `address`, a `CUdeviceptr`, on.
    ///
    /// `owner` is dropped once nothing here can touch the memory any more.
    ///
    /// # Safety
    /// The memory belongs to the primary context of the device on which a group is made of it, and
    /// is valid as long as `owner` lives. From the call of
    /// [`CudaDevice::group_in`](crate::CudaDevice::group_in) until that group is finished or
    /// dropped, nobody else reads or writes it, except work that the stream or event named below
    /// comes after.
    #[must_use]
    pub unsafe fn new(address: u64, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            address,
            len,
            owner,
            after: After::Nothing,
        }
    }

    /// Waits for all that is enqueued on a stream before the first byte is written.
    ///
    /// # Safety
    /// The stream is one of the device's primary context, and alive until the group is made.
    #[must_use]
    pub unsafe fn after_stream(mut self, stream: CUstream) -> Self {
        self.after = After::Stream(stream);
        self
    }

    /// Waits for an event before the first byte is written.
    ///
    /// # Safety
    /// The event is one of the device's primary context, and alive until the group is made.
    #[must_use]
    pub unsafe fn after_event(mut self, event: CUevent) -> Self {
        self.after = After::Event(event);
        self
    }

    /// Waits until the memory may be written to.
    pub(super) fn wait(&self, context: &Context) -> Result<(), CallError> {
        let _bound = context.bind()?;
        // SAFETY: the caller of `after_stream` or `after_event` guarantees that it is valid.
        unsafe {
            match self.after {
                After::Nothing => Ok(()),
                After::Stream(raw) => check("cuStreamSynchronize", stream::synchronize(raw)),
                After::Event(raw) => check("cuEventSynchronize", event::synchronize(raw)),
            }
        }
    }
}
