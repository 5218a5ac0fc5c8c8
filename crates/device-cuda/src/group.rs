use std::fmt;
use std::sync::Arc;

use tensorlift_device::{Destination, DeviceError, Group};

use crate::CudaBuffer;
use crate::device::Inner;
use crate::driver::Allocation;
use crate::error::failed;

/// One allocation on a CUDA device, being filled or finished.
///
/// Every [`Group`] is [`Any`](std::any::Any); [`CudaBuffer::of`] downcasts to it.
pub struct CudaGroup {
    pub(crate) memory: Arc<Allocation>,
    /// Gone once the group is finished, so that tensors do not hold the lanes.
    pub(crate) loading: Option<Arc<Inner>>,
    /// Whether every byte is known to have arrived.
    complete: bool,
}

impl CudaGroup {
    pub(crate) fn new(device: &Arc<Inner>, memory: Allocation) -> Self {
        Self {
            memory: Arc::new(memory),
            loading: Some(Arc::clone(device)),
            complete: false,
        }
    }

    /// The memory, shared, once the group is finished.
    #[must_use]
    pub fn buffer(&self) -> Option<CudaBuffer> {
        let memory = self.complete.then(|| Arc::clone(&self.memory));
        memory.map(CudaBuffer::new)
    }
}

impl Group for CudaGroup {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Staged(self)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        let Some(device) = self.loading.take() else {
            return Ok(());
        };
        device.files.release(&self.memory);
        // Lanes wait for their copies, and none is left: each borrows the group.
        let outcome = self.memory.outcome();
        outcome.map_err(failed(device.ordinal(), "copy to the device"))?;
        self.complete = true;
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        // An empty group needs no device.
        self.memory.len().eq(&0).then_some(&[])
    }
}

impl Drop for CudaGroup {
    fn drop(&mut self) {
        if let Some(device) = self.loading.take() {
            device.files.release(&self.memory);
        }
    }
}

impl fmt::Debug for CudaGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaGroup")
            .field("len", &self.memory.len())
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}
