//! Views for users of cudarc.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};

use super::memory::Allocation;

/// Elements of a group as a slice of cudarc, on a stream of the user's.
///
/// It derefs to [`CudaSlice`], so views, copies and kernel launches of cudarc work on it; the
/// group's memory lives as long as any slice of it. Kernels may write to it through their own
/// views: other readers of the group are then the caller's responsibility.
pub struct SharedSlice<T> {
    /// Never dropped as it is: that would free the memory.
    slice: ManuallyDrop<CudaSlice<T>>,
    /// Freed after every work on the device, as its address is known outside.
    _memory: Arc<Allocation>,
}

impl<T> Deref for SharedSlice<T> {
    type Target = CudaSlice<T>;

    fn deref(&self) -> &CudaSlice<T> {
        &self.slice
    }
}

impl<T> Drop for SharedSlice<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, here; `leak` gives back all but the memory.
        let slice = unsafe { ManuallyDrop::take(&mut self.slice) };
        slice.leak();
    }
}

impl<T> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSlice")
            .field("len", &self.slice.len())
            .finish_non_exhaustive()
    }
}

/// Why bytes cannot be a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlice {
    /// The stream is of another context.
    Context,
    /// The memory is the caller's own.
    Owner,
    /// The range does not lie inside, or not on whole elements.
    Range,
}

/// A slice of the bytes in `range`.
pub(crate) fn share<T: DeviceRepr + Pod>(
    memory: &Arc<Allocation>,
    range: Range<usize>,
    stream: &Arc<CudaStream>,
) -> Result<SharedSlice<T>, NoSlice> {
    let elements = elements::<T>(memory, &range, stream)?;
    let address = memory.expose() + range.start as u64;
    // SAFETY: the range is inside the memory, which the result keeps alive, of the stream's own
    // context, and aligned for `T`, of which every bit pattern is a value. All copies into it are
    // done. `SharedSlice` sees to it that it is never freed through the slice.
    let slice = unsafe { stream.upgrade_device_ptr::<T>(address, elements) };
    Ok(SharedSlice {
        slice: ManuallyDrop::new(slice),
        _memory: Arc::clone(memory),
    })
}

/// The whole memory as a slice that owns it.
pub(crate) fn give<T: DeviceRepr + Pod>(
    memory: Arc<Allocation>,
    stream: &Arc<CudaStream>,
) -> Result<CudaSlice<T>, (Arc<Allocation>, Option<NoSlice>)> {
    let elements = match elements::<T>(&memory, &(0..memory.len()), stream) {
        Ok(elements) => elements,
        Err(error) => return Err((memory, Some(error))),
    };
    if memory.is_callers() {
        return Err((memory, Some(NoSlice::Owner)));
    }
    // It is still shared.
    let memory = Arc::try_unwrap(memory).map_err(|memory| (memory, None))?;
    // SAFETY: as for `share`; `hand_over` leaves freeing to the slice. cudarc frees with
    // `cuMemFree` or `cuMemFreeAsync`; that the latter accepts memory of `cuMemAlloc` is assumed
    // (LIMITS.md).
    Ok(unsafe { stream.upgrade_device_ptr::<T>(memory.hand_over(), elements) })
}

fn elements<T>(
    memory: &Allocation,
    range: &Range<usize>,
    stream: &CudaStream,
) -> Result<usize, NoSlice> {
    if stream.context().cu_ctx() != memory.context().raw() {
        return Err(NoSlice::Context);
    }
    let len = range.len();
    let inside = range.start <= range.end && memory.holds(range.start, len);
    // Empty memory has no address that cudarc could free.
    let whole = len > 0 && size_of::<T>() > 0 && len.is_multiple_of(size_of::<T>());
    let aligned = range.start.is_multiple_of(align_of::<T>());
    match inside && whole && aligned {
        true => Ok(len / size_of::<T>()),
        false => Err(NoSlice::Range),
    }
}
