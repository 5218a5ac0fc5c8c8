use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorlift_device::{Device, DeviceError, Group, GroupRequest, GroupRules};

use crate::driver::{Context, DeviceMemory, Stream};
use crate::error::{device_name, failed, opening};
use crate::files::Files;
use crate::group::CudaGroup;
use crate::lanes::Lanes;
use crate::options::CudaOptions;
use crate::report::CudaReport;

/// A CUDA device as a place for tensors.
///
/// Cheap to clone. Its lanes (pinned slots, streams, events) are made by the first load, as many
/// as that can use, and reused by the next ones; they are given back with the last clone and load.
/// Loaded tensors alone do not hold them.
#[derive(Clone)]
pub struct CudaDevice {
    inner: Arc<Inner>,
}

/// What a load needs of its device.
pub(crate) struct Inner {
    pub(crate) options: CudaOptions,
    pub(crate) context: Arc<Context>,
    /// Allocates, frees, and copies back.
    pub(crate) home: Arc<Stream>,
    pub(crate) lanes: Lanes,
    pub(crate) files: Files,
    opening: Duration,
}

/// # Opening devices
impl CudaDevice {
    /// The device of this number, with default options.
    ///
    /// # Errors
    /// [`DeviceError::DriverMissing`], [`DeviceError::Unavailable`] for a number that is not
    /// there or a driver that does not start, and [`DeviceError::Failed`].
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
        let begun = Instant::now();
        let context = Context::open(ordinal).map_err(|error| opening(ordinal, error))?;
        let home = Stream::new(&context).map_err(failed(ordinal, "create a stream"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                lanes: Lanes::new(options.lanes, options.slot_bytes),
                files: Files::new(options.gds, options.slot_bytes),
                options,
                context,
                home,
                opening: begun.elapsed(),
            }),
        })
    }
}

/// # Asking devices
impl CudaDevice {
    /// The device's number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.inner.context.ordinal()
    }

    /// What opening the device cost, and what it offers.
    #[must_use]
    pub fn report(&self) -> CudaReport {
        let inner = &self.inner;
        let (gds, gds_opening) = inner.files.describe(&inner.context);
        let made = inner.lanes.made();
        CudaReport {
            device: self.name(),
            model: inner.context.device_name().into(),
            batched_copies: inner.context.batches(),
            gds,
            gds_opening,
            opening: inner.opening,
            pinning: made.pinning,
            pinned_bytes: made.pinned_bytes,
            pinned_by: made.pinned_by,
            lanes: made.lanes,
        }
    }

    /// Bytes that can be allocated now, as far as the driver knows.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn free_bytes(&self) -> Result<u64, DeviceError> {
        let free = self.inner.context.free_bytes();
        free.map_err(failed(self.ordinal(), "tell its free memory"))
    }
}

impl Inner {
    pub(crate) fn ordinal(&self) -> usize {
        self.context.ordinal()
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
        let free = self.free_bytes()?;
        if bytes <= free {
            return self.inner.lanes.make_for(bytes, &self.inner.context);
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
            inner.lanes.make_for(request.bytes as u64, &inner.context)?;
        }
        let memory = allocate(&inner.home, request.bytes)?;
        Ok(Box::new(CudaGroup::new(inner, memory)))
    }
}

/// Allocates, and tells a full device from one that failed.
pub(crate) fn allocate(stream: &Arc<Stream>, bytes: usize) -> Result<DeviceMemory, DeviceError> {
    let context = stream.context();
    DeviceMemory::new(stream, bytes).map_err(|error| match error.is_out_of_memory() {
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
