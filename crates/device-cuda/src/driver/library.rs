//! The driver's library: looked for before cudarc is asked for anything, since cudarc panics where
//! it, or a symbol in it, is missing.

use std::ffi::c_int;
use std::sync::OnceLock;

use cudarc::driver::sys::{CUdeviceptr, CUresult, CUstream};
use libloading::Library;

use super::context::OpenError;

/// The library as messages name it.
pub(crate) const LIBRARY: &str = "the CUDA driver library (libcuda.so.1)";

/// File names in the order in which cudarc tries them.
#[cfg(windows)]
const NAMES: [&str; 2] = ["cuda.dll", "nvcuda.dll"];
#[cfg(not(windows))]
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

/// Every symbol that cudarc looks up for this crate.
const NEEDED: [&str; 33] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuMemAlloc_v2",
    // With these, cudarc frees memory that was passed to it.
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemcpy2DAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// Why the driver cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    Library,
    Symbol(&'static str),
}

/// The library, kept loaded, and its optional functions.
#[derive(Debug)]
pub(crate) struct Driver {
    batch: Option<Batch>,
    _library: Library,
}

/// `cuMemcpyBatchAsync`, of which there are two.
#[derive(Clone, Copy, Debug)]
enum Batch {
    /// CUDA 12.8: tells which copy failed.
    First(BatchFirst),
    /// CUDA 13.0.
    Second(BatchSecond),
}

type BatchFirst = unsafe extern "C" fn(
    *const CUdeviceptr,
    *const CUdeviceptr,
    *const usize,
    usize,
    *const CopyAttributes,
    *const usize,
    usize,
    *mut usize,
    CUstream,
) -> CUresult;

type BatchSecond = unsafe extern "C" fn(
    *const CUdeviceptr,
    *const CUdeviceptr,
    *const usize,
    usize,
    *const CopyAttributes,
    *const usize,
    usize,
    CUstream,
) -> CUresult;

/// `CUmemcpyAttributes`.
#[repr(C)]
#[derive(Default)]
struct CopyAttributes {
    source_access_order: u32,
    source_hint: Location,
    destination_hint: Location,
    flags: u32,
}

/// `CUmemLocation`; zero is no hint.
#[repr(C)]
#[derive(Default)]
struct Location {
    kind: u32,
    id: c_int,
}

/// `CU_MEMCPY_SRC_ACCESS_ORDER_STREAM`: sources are read in the order of the stream, so they must
/// stay until then, as with single copies.
const IN_STREAM_ORDER: u32 = 1;

/// Whether there is a driver with all required symbols.
pub(crate) fn find_driver() -> Result<(), OpenError> {
    driver().map(drop).map_err(OpenError::Lacking)
}

/// Looks for the library and all required symbols.
pub(super) fn driver() -> Result<&'static Driver, Lacking> {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    if let Some(driver) = DRIVER.get() {
        return Ok(driver);
    }
    // Two threads may both come here; the library is then opened twice, and is still one.
    let driver = Driver::open()?;
    Ok(DRIVER.get_or_init(|| driver))
}

impl Driver {
    fn open() -> Result<Self, Lacking> {
        let open = |name| {
            // SAFETY: loading the driver's library runs its initialisers. They are as trustworthy
            // as the driver itself, which the process is about to use.
            unsafe { Library::new(name) }.ok()
        };
        let library = NAMES.into_iter().find_map(open).ok_or(Lacking::Library)?;
        for name in NEEDED {
            // SAFETY: the symbol's address is only compared with nothing, never called.
            let symbol = unsafe { library.get::<*const ()>(name.as_bytes()) };
            symbol.map_err(|_| Lacking::Symbol(name))?;
        }
        // SAFETY: the types are those that `cuda.h` gives these two names.
        let batch = unsafe {
            let second = library.get::<BatchSecond>(b"cuMemcpyBatchAsync_v2");
            let first = library.get::<BatchFirst>(b"cuMemcpyBatchAsync");
            let second = second.ok().map(|call| Batch::Second(*call));
            second.or_else(|| first.ok().map(|call| Batch::First(*call)))
        };
        Ok(Self {
            batch,
            _library: library,
        })
    }

    pub(crate) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Enqueues copies as one; `None` where the driver cannot.
    ///
    /// # Safety
    /// As for the same number of single copies on that stream: every source and destination stays
    /// valid until the stream has passed them.
    pub(super) unsafe fn copy_batch(
        &self,
        to: &[CUdeviceptr],
        from: &[CUdeviceptr],
        sizes: &[usize],
        stream: CUstream,
    ) -> Option<CUresult> {
        debug_assert!(to.len() == from.len() && to.len() == sizes.len());
        let attributes = CopyAttributes {
            source_access_order: IN_STREAM_ORDER,
            ..CopyAttributes::default()
        };
        let (to, from, bytes, count) = (to.as_ptr(), from.as_ptr(), sizes.as_ptr(), sizes.len());
        // One set of attributes, from the first copy on.
        let (attributes, starts) = (&raw const attributes, [0usize]);
        let starts = starts.as_ptr();
        // SAFETY: the arrays have `count` elements and outlive the call, which copies them; the
        // caller answers for what they point to.
        Some(unsafe {
            match self.batch? {
                Batch::First(call) => {
                    let mut failed = 0;
                    call(
                        to,
                        from,
                        bytes,
                        count,
                        attributes,
                        starts,
                        1,
                        &raw mut failed,
                        stream,
                    )
                }
                Batch::Second(call) => call(to, from, bytes, count, attributes, starts, 1, stream),
            }
        })
    }
}
