//! How a device loads.

use tensorlift_device::DeviceError;

use crate::CudaDevice;

/// The page size that buffers are multiples of, as direct reads ask for it.
const PAGE_BYTES: usize = 4096;

/// Options of a [`CudaDevice`]; each has a default that suits most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    pub(crate) ordinal: usize,
    pub(crate) ring_buffers: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) streams: usize,
    pub(crate) tensor_alignment: usize,
    pub(crate) group_bytes: u64,
    pub(crate) one_dtype: bool,
    pub(crate) gds: Gds,
}

/// Whether files are read by GPUDirect Storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gds {
    /// Where cuFile says that it reaches some storage directly, and a first read proves it.
    #[default]
    Auto,
    /// Wherever a first read proves it, even if cuFile only imitates it.
    On,
    /// Never.
    Off,
}

impl CudaOptions {
    pub(crate) fn new(ordinal: usize) -> Self {
        Self {
            ordinal,
            ring_buffers: 16,
            buffer_bytes: 4 << 20,
            streams: 2,
            tensor_alignment: 16,
            group_bytes: u64::MAX,
            one_dtype: false,
            gds: Gds::default(),
        }
    }

    /// Pinned buffers in the ring; 16 by default: 8 reads in flight, and as many copies.
    ///
    /// More let storage run further ahead of the bus, and cost host memory that cannot be swapped
    /// and time to pin it. Fewer than reading threads make those wait.
    #[must_use]
    pub fn ring_buffers(mut self, buffers: usize) -> Self {
        self.ring_buffers = buffers.max(1);
        self
    }

    /// Bytes of each buffer, rounded up to whole pages; 4 MiB by default, the loader's chunk.
    ///
    /// Larger ones read and copy with fewer calls, and start and end later.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE_BYTES);
        self.buffer_bytes = bytes.unwrap_or(usize::MAX / PAGE_BYTES * PAGE_BYTES);
        self
    }

    /// Streams that copies are spread over; 2 by default, which keeps one copy engine busy.
    #[must_use]
    pub fn streams(mut self, streams: usize) -> Self {
        self.streams = streams.clamp(1, 64);
        self
    }

    /// The least alignment of every tensor in bytes, rounded up to a power of two, at most 256;
    /// 16 by default.
    ///
    /// Some kernels want 256. A tensor that lies otherwise in its file costs one more copy.
    #[must_use]
    pub fn tensor_alignment(mut self, bytes: usize) -> Self {
        // What the driver aligns an allocation to.
        self.tensor_alignment = bytes.clamp(1, 256).next_power_of_two();
        self
    }

    /// The most bytes of one group, unless a single tensor is larger; no bound by default.
    ///
    /// A group is freed with its last tensor, so small ones free memory earlier.
    #[must_use]
    pub fn group_bytes(mut self, bytes: u64) -> Self {
        self.group_bytes = bytes.max(1);
        self
    }

    /// Whether all tensors of a group have one dtype, as some frameworks want; not by default.
    #[must_use]
    pub fn one_dtype(mut self, one: bool) -> Self {
        self.one_dtype = one;
        self
    }

    /// Whether files are read by GPUDirect Storage; [`Gds::Auto`] by default.
    #[must_use]
    pub fn gds(mut self, gds: Gds) -> Self {
        self.gds = gds;
        self
    }

    /// Opens the device.
    ///
    /// # Errors
    /// As for [`CudaDevice::new`].
    pub fn build(self) -> Result<CudaDevice, DeviceError> {
        CudaDevice::open(self)
    }
}
