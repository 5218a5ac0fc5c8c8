use std::fmt;
use std::sync::Arc;

use tensorlift_device::{Device, DeviceError, Group, GroupRequest, GroupRules};

use crate::driver::{Allocation, CallerMemory, Context, Stream};
use crate::error::{device_name, failed, opening};
use crate::files::Files;
use crate::group::CudaGroup;
use crate::lanes::Lanes;
use crate::options::CudaOptions;
use crate::report::CudaReport;
use crate::start::{Start, Started};

/// A CUDA device to load tensors to.
///
/// The driver starts on its own thread when the device is created, and calls that need it wait for
/// it. So create the device before the checkpoint is opened.
///
/// Cheap to clone. Its lanes (pinned slots, streams, events) are made by the first load, as many
/// as that can use, and reused by the next ones: a process that loads again keeps the device.
/// Everything is released with the last clone and load; loaded tensors hold no lanes.
#[derive(Clone)]
pub struct CudaDevice {
    inner: Arc<Inner>,
}

/// What a load needs of its device.
pub(crate) struct Inner {
    pub(crate) options: CudaOptions,
    start: Start,
    pub(crate) lanes: Lanes,
    pub(crate) files: Files,
}

/// # Opening devices
impl CudaDevice {
    /// The device of this number, with default options.
    ///
    /// # Errors
    /// [`DeviceError::DriverMissing`], and [`DeviceError::Unavailable`] for a driver that is too
    /// old. A missing number and a driver that does not start are errors of the first call that
    /// needs the driver, or of [`wait`](Self::wait).
    pub fn new(ordinal: usize) -> Result<Self, DeviceError> {
        Self::options(ordinal).build()
    }

    /// Options for the device of this number; [`CudaOptions::build`] opens it.
    #[must_use]
    pub fn options(ordinal: usize) -> CudaOptions {
        CudaOptions::new(ordinal)
    }

    pub(crate) fn open(options: CudaOptions) -> Result<Self, DeviceError> {
        let ordinal = options.ordinal;
        Ok(Self {
            inner: Arc::new(Inner {
                start: Start::begin(ordinal).map_err(|error| opening(ordinal, error))?,
                lanes: Lanes::new(options.lanes, options.slot_bytes),
                files: Files::new(options.gds, options.slot_bytes),
                options,
            }),
        })
    }

    /// Waits until the driver has started.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] for a missing number, or a driver that does not start.
    pub fn wait(&self) -> Result<(), DeviceError> {
        self.inner.started().map(drop)
    }
}

/// # Properties
impl CudaDevice {
    /// The device's number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.inner.ordinal()
    }

    /// What starting the driver and making lanes cost so far, and what the device offers.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn report(&self) -> Result<CudaReport, DeviceError> {
        let inner = &self.inner;
        let started = inner.started()?;
        let made = inner.lanes.made();
        Ok(CudaReport {
            device: self.name(),
            model: started.context.device_name().into(),
            batched_copies: started.context.batches(),
            gds: inner.files.report(),
            opening: started.took,
            pinning: made.pinning,
            pinned_bytes: made.pinned_bytes,
            pinned_by: made.pinned_by,
            lanes: made.lanes,
        })
    }

    /// Bytes that can be allocated now, according to the driver.
    ///
    /// # Errors
    /// If the driver does not start, or does not answer.
    pub fn free_bytes(&self) -> Result<u64, DeviceError> {
        let free = self.inner.context()?.free_bytes();
        free.map_err(failed(self.ordinal(), "tell its free memory"))
    }
}

/// # Filling memory of the caller's
impl CudaDevice {
    /// A group in memory of the caller: for a [`Device`] that returns it when the loader allocates,
    /// so that weights are loaded to the same addresses again.
    ///
    /// It waits for the work that must precede writes, and allocates nothing on the device.
    /// If the load fails, or is cancelled, what the memory then holds is unspecified.
    ///
    /// # Errors
    /// If the driver does not start, or the wait fails: nothing was written then.
    pub fn group_in(&self, memory: CallerMemory) -> Result<CudaGroup, DeviceError> {
        let home = &self.inner.started()?.home;
        let memory = Allocation::of_caller(home, memory);
        let wait = failed(self.ordinal(), "wait for the caller's memory");
        Ok(CudaGroup::new(&self.inner, memory.map_err(wait)?))
    }
}

impl Inner {
    pub(crate) fn ordinal(&self) -> usize {
        self.options.ordinal
    }

    /// Waits for the driver.
    pub(crate) fn started(&self) -> Result<&Started, DeviceError> {
        let started = self.start.wait();
        started.map_err(|error| opening(self.ordinal(), error))
    }

    pub(crate) fn context(&self) -> Result<&Arc<Context>, DeviceError> {
        self.started().map(|started| &started.context)
    }

    /// Makes the lanes for a load of this many bytes; their memory is touched while the driver may
    /// still be starting.
    pub(crate) fn make_lanes(&self, bytes: u64) -> Result<(), DeviceError> {
        self.lanes.make_for(bytes, || self.context())
    }
}

impl Device for CudaDevice {
    fn name(&self) -> String {
        device_name(self.ordinal())
    }

    fn rules(&self) -> GroupRules {
        let mut rules = GroupRules::default();
        rules.tensor_alignment = self.inner.options.tensor_alignment;
        rules.one_dtype = self.inner.options.one_dtype;
        rules.max_bytes = self.inner.options.group_bytes;
        rules.readers = Some(self.inner.options.lanes);
        rules
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        self.inner.make_lanes(bytes)?;
        let free = self.free_bytes()?;
        if bytes <= free {
            return Ok(());
        }
        Err(DeviceError::OutOfMemory {
            device: self.name(),
            needed: bytes,
            free,
        })
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let inner = &self.inner;
        if request.bytes > 0 {
            inner.make_lanes(request.bytes as u64)?;
        }
        let memory = allocate(&inner.started()?.home, request.bytes)?;
        Ok(Box::new(CudaGroup::new(inner, memory)))
    }
}

/// Allocates, and distinguishes a full device from one that failed.
pub(crate) fn allocate(stream: &Arc<Stream>, bytes: usize) -> Result<Allocation, DeviceError> {
    let context = stream.context();
    Allocation::new(stream, bytes).map_err(|error| match error.is_out_of_memory() {
        true => DeviceError::OutOfMemory {
            device: device_name(context.ordinal()),
            needed: bytes as u64,
            free: context.free_bytes().unwrap_or(0),
        },
        false => failed(context.ordinal(), format!("allocate {bytes} bytes"))(error),
    })
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaDevice")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}
