use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tensorlift_device::{Device, DeviceError, Group, GroupRequest, GroupRules};

use crate::driver::{Context, DeviceMemory, MemoryFrom, Stream};
use crate::error::{device_name, failed, opening};
use crate::files::Files;
use crate::group::CudaGroup;
use crate::options::CudaOptions;
use crate::report::CudaReport;
use crate::ring::Ring;

/// A CUDA device as a place for tensors.
///
/// Cheap to clone. While any clone, or a load to it, is alive, its pinned buffers stay and are
/// reused, also by other devices of the process that ask for the same ones.
/// Loaded tensors alone do not hold them.
#[derive(Clone)]
pub struct CudaDevice {
    inner: Arc<Inner>,
}

/// What a load needs of its device.
pub(crate) struct Inner {
    pub(crate) options: CudaOptions,
    pub(crate) context: Arc<Context>,
    /// Never empty; the first one also allocates and frees.
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) files: Files,
    next_stream: AtomicUsize,
    opening: Duration,
    ring_reused: bool,
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
        let (buffers, buffer_bytes) = (options.ring_buffers, options.buffer_bytes);
        if buffers
            .checked_mul(buffer_bytes)
            .is_none_or(|sum| sum > isize::MAX as usize)
        {
            return Err(DeviceError::Allocation {
                device: "host".into(),
                needed: u64::MAX,
                source: std::io::ErrorKind::OutOfMemory.into(),
            });
        }
        let begun = Instant::now();
        let context = Context::open(ordinal).map_err(|error| opening(ordinal, error))?;
        let streams = (0..options.streams)
            .map(|_| Stream::new(&context))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed(ordinal, "create a stream"))?;
        let opening = begun.elapsed();
        let pin = format!("pin {buffers} host buffers of {buffer_bytes} bytes");
        let (ring, ring_reused) =
            Ring::shared(&context, buffers, buffer_bytes).map_err(failed(ordinal, pin))?;
        let files = Files::new(options.gds, buffer_bytes);
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                context,
                streams,
                ring,
                files,
                next_stream: AtomicUsize::new(0),
                opening,
                ring_reused,
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
        CudaReport {
            device: self.name(),
            model: inner.context.device_name().into(),
            pools: inner.context.has_pools(),
            batched_copies: inner.context.batches(),
            gds,
            gds_opening,
            opening: inner.opening,
            pinning: match inner.ring_reused {
                true => Duration::ZERO,
                false => inner.ring.pinning(),
            },
            pinned_bytes: inner.ring.bytes(),
            pinned_by: inner.ring.pinned_by(),
            ring_reused: inner.ring_reused,
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

    /// The streams in turn.
    pub(crate) fn next_stream(&self) -> &Arc<Stream> {
        let turn = self.next_stream.fetch_add(1, Ordering::Relaxed);
        &self.streams[turn % self.streams.len()]
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
        rules
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
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

    fn allocate(&self, request: &GroupRequest) -> Result<Box<dyn Group>, DeviceError> {
        let memory = allocate(&self.inner.streams[0], request.bytes)?;
        Ok(Box::new(CudaGroup::new(&self.inner, memory)))
    }
}

/// Allocates, and tells a full device from one that failed.
pub(crate) fn allocate(stream: &Arc<Stream>, bytes: usize) -> Result<DeviceMemory, DeviceError> {
    let context = stream.context();
    DeviceMemory::new(stream, bytes, MemoryFrom::Pool).map_err(|error| {
        match error.is_out_of_memory() {
            true => DeviceError::OutOfMemory {
                device: device_name(context.ordinal()),
                needed: bytes as u64,
                free: context.free_bytes().unwrap_or(0),
            },
            false => failed(context.ordinal(), format!("allocate {bytes} bytes"))(error),
        }
    })
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaDevice")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}
