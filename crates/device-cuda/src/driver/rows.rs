//! Copies within a device that close gaps.

use cudarc::driver::sys::{self, CUDA_MEMCPY2D, CUmemorytype};

use super::call::{CallError, check};
use super::memory::Allocation;

/// Rows of bytes at a regular distance, which are to lie one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The first byte of the first row.
    pub(crate) from: usize,
    /// From the beginning of a row to that of the next, at least a row's width.
    pub(crate) pitch: usize,
    /// Where the first row is to begin.
    pub(crate) to: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Allocation {
    /// Copies rows out of other memory of the same device, and waits.
    ///
    /// # Panics
    /// If they are not inside both: callers check.
    pub(crate) fn take_rows(
        &self,
        from: &Allocation,
        mut rows: impl Iterator<Item = Rows>,
    ) -> Result<(), CallError> {
        let stream = self.stream();
        let _bound = self.context().bind()?;
        let copied = rows.try_for_each(|rows| {
            let (width, height) = (rows.width, rows.height);
            let span = (rows.pitch * (height - 1)).checked_add(width);
            assert!(
                span.is_some_and(|span| from.holds(rows.from, span))
                    && self.holds(rows.to, width * height),
                "rows inside the memory"
            );
            let copy = CUDA_MEMCPY2D {
                srcMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
                srcDevice: from.address() + rows.from as u64,
                srcPitch: rows.pitch,
                dstMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
                dstDevice: self.address() + rows.to as u64,
                dstPitch: width,
                WidthInBytes: width,
                Height: height,
                srcXInBytes: 0,
                srcY: 0,
                srcHost: std::ptr::null(),
                srcArray: std::ptr::null_mut(),
                dstXInBytes: 0,
                dstY: 0,
                dstHost: std::ptr::null_mut(),
                dstArray: std::ptr::null_mut(),
            };
            // SAFETY: both ends are inside memory that lives until the stream is drained, below.
            let copied = unsafe { sys::cuMemcpy2DAsync_v2(&raw const copy, stream.raw()) };
            check("cuMemcpy2DAsync", copied.result())
        });
        let drained = stream.drain();
        copied.and(drained)
    }
}
