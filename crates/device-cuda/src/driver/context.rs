//! A device's primary context: the one that all libraries of a process share.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::result::{self, ctx, device, primary_ctx};
use cudarc::driver::sys::{self, CUcontext, CUdevice};

use super::call::{CallError, check, note};
use super::library::{Driver, Lacking, driver};

/// Why a device could not be opened.
#[derive(Clone, Debug)]
pub(crate) enum OpenError {
    Lacking(Lacking),
    Ordinal { ordinal: usize, devices: usize },
    Call(CallError),
}

impl From<CallError> for OpenError {
    fn from(error: CallError) -> Self {
        OpenError::Call(error)
    }
}

/// A retained primary context.
#[derive(Debug)]
pub(crate) struct Context {
    device: CUdevice,
    raw: CUcontext,
    ordinal: usize,
    name: String,
    driver: &'static Driver,
    batch_refused: AtomicBool,
}

// SAFETY: a context may be made current to any number of threads at once; the driver locks.
unsafe impl Send for Context {}
// SAFETY: as above; nothing here changes without an atomic.
unsafe impl Sync for Context {}

/// A device as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its number.
    pub ordinal: usize,
    /// The name that its maker gave it.
    pub name: String,
    /// Its memory in bytes.
    pub memory: u64,
}

/// Every device, without making a context on any.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, OpenError> {
    driver().map_err(OpenError::Lacking)?;
    check("cuInit", result::init())?;
    let count = check("cuDeviceGetCount", device::get_count())?;
    let info = |ordinal| {
        let raw = check("cuDeviceGet", device::get(ordinal))?;
        // SAFETY: the device comes from the driver.
        let memory = check("cuDeviceTotalMem", unsafe { device::total_mem(raw) })?;
        Ok(DeviceInfo {
            ordinal: ordinal as usize,
            name: check("cuDeviceGetName", device::get_name(raw))?,
            memory: memory as u64,
        })
    };
    (0..count).map(info).collect()
}

/// The newest CUDA version that the driver supports, as 1000 times the major and 10 times the
/// minor number.
pub(crate) fn version() -> Result<u32, OpenError> {
    driver().map_err(OpenError::Lacking)?;
    let mut version = 0;
    // SAFETY: the pointer is to a live integer.
    let result = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    check("cuDriverGetVersion", result)?;
    Ok(version.unsigned_abs())
}

impl Context {
    pub(crate) fn open(ordinal: usize) -> Result<Arc<Self>, OpenError> {
        let driver = driver().map_err(OpenError::Lacking)?;
        check("cuInit", result::init())?;
        let devices = check("cuDeviceGetCount", device::get_count())?;
        let devices = usize::try_from(devices).unwrap_or(0);
        if ordinal >= devices {
            return Err(OpenError::Ordinal { ordinal, devices });
        }
        let raw_ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
        let device = check("cuDeviceGet", device::get(raw_ordinal))?;
        let name = check("cuDeviceGetName", device::get_name(device))?;
        // SAFETY: the device comes from the driver; what is retained is released in `drop`.
        let raw = unsafe { primary_ctx::retain(device) };
        let raw = check("cuDevicePrimaryCtxRetain", raw)?;
        Ok(Arc::new(Self {
            device,
            raw,
            ordinal,
            name,
            driver,
            batch_refused: AtomicBool::new(false),
        }))
    }

    pub(crate) fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// The name that the maker gave the device.
    pub(crate) fn device_name(&self) -> &str {
        &self.name
    }

    pub(crate) fn raw(&self) -> CUcontext {
        self.raw
    }

    /// The driver, where it has batched copies and has not refused one.
    pub(super) fn batch(&self) -> Option<&'static Driver> {
        self.batches().then_some(self.driver)
    }

    pub(crate) fn batches(&self) -> bool {
        self.driver.has_batch() && !self.batch_refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse_batch(&self) {
        self.batch_refused.store(true, Ordering::Relaxed);
    }

    /// Makes the context current to this thread until the value is dropped.
    ///
    /// Whatever was current before is current again afterwards: a thread may be in the middle of
    /// another library's work on another device.
    pub(crate) fn bind(&self) -> Result<Bound<'_>, CallError> {
        let previous = check("cuCtxGetCurrent", ctx::get_current())?;
        self.bind_over(previous)
    }

    /// Like [`bind`](Self::bind), for releases: it continues if that fails.
    pub(super) fn bind_anyhow(&self) -> Option<Bound<'_>> {
        let previous = ctx::get_current().ok().flatten();
        let bound = self
            .bind_over(previous)
            .or_else(|_| self.bind_over(previous));
        bound.ok()
    }

    fn bind_over(&self, previous: Option<CUcontext>) -> Result<Bound<'_>, CallError> {
        let restore = previous != Some(self.raw);
        if restore {
            // SAFETY: the context is retained as long as `self` lives.
            check("cuCtxSetCurrent", unsafe { ctx::set_current(self.raw) })?;
        }
        Ok(Bound {
            restore: restore.then(|| previous.unwrap_or(std::ptr::null_mut())),
            _bound: PhantomData,
        })
    }

    /// Waits for all work on the device, of any library.
    pub(crate) fn synchronize(&self) -> Result<(), CallError> {
        let _bound = self.bind()?;
        check("cuCtxSynchronize", ctx::synchronize())
    }

    /// Bytes that an allocation can have.
    pub(crate) fn free_bytes(&self) -> Result<u64, CallError> {
        let _bound = self.bind()?;
        let (free, _) = check("cuMemGetInfo", result::mem_get_info())?;
        Ok(free as u64)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`; all that lived in it held an `Arc` of it.
        let released = unsafe { primary_ctx::release(self.device) };
        note(check("cuDevicePrimaryCtxRelease", released));
    }
}

/// A context that is current to this thread.
#[must_use]
pub(crate) struct Bound<'a> {
    /// The context that was current before, or null.
    restore: Option<CUcontext>,
    /// Of this thread alone, and no longer than the context.
    _bound: PhantomData<(&'a Context, *const ())>,
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        if let Some(previous) = self.restore {
            // SAFETY: it was current to this thread when `self` was made; should its owner have
            // destroyed it meanwhile, the driver says so.
            note(check("cuCtxSetCurrent", unsafe {
                ctx::set_current(previous)
            }));
        }
    }
}
