//! How a device loads.

use tensorlift_device::DeviceError;

use crate::CudaDevice;

/// The page size that slots are multiples of, as direct reads ask for it.
const PAGE_BYTES: usize = 4096;

/// Options of a [`CudaDevice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    pub(crate) ordinal: usize,
    pub(crate) lanes: usize,
    pub(crate) slot_bytes: usize,
    pub(crate) tensor_alignment: usize,
    pub(crate) group_bytes: u64,
    pub(crate) one_dtype: bool,
    pub(crate) gds: Gds,
}

/// Whether files are read by GPUDirect Storage.
///
/// cuFile takes 0.38 to 0.57 s to open, in each process, and hundreds of megabytes of device
/// memory (seen on an H100 without nvidia-fs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gds {
    /// Only where it can pay: for groups of at least 4 GiB, where nvidia-fs or the kernel's
    /// peer-to-peer DMA is there, and for files on ext4, XFS, NFS, Lustre, GPFS or BeeGFS. cuFile
    /// is not opened otherwise.
    #[default]
    Auto,
    /// For every file whose first reads succeed, even if cuFile copies through the host.
    On,
    /// Never.
    Off,
}

impl CudaOptions {
    pub(crate) fn new(ordinal: usize) -> Self {
        Self {
            ordinal,
            lanes: readers(),
            slot_bytes: 2 << 20,
            tensor_alignment: 16,
            group_bytes: u64::MAX,
            one_dtype: false,
            gds: Gds::default(),
        }
    }

    /// The most lanes, of which each reader borrows one: a stream and two pinned slots; by default
    /// as many as there are cores, at most 16.
    ///
    /// From 12 readers on, an H100 was fed at 0.9 of its bus.
    /// Small loads and systems that pin less memory make fewer lanes.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.clamp(1, 256);
        self
    }

    /// Bytes of each slot, rounded up to whole pages, at most 1 GiB; 2 MiB by default.
    ///
    /// The loader reads chunks of at most this size.
    /// On an H100, 2 and 4 MiB were equally fast; smaller ones cost calls, and larger ones leave
    /// the processor's cache between the read and the copy.
    #[must_use]
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes.clamp(1, 1 << 30).next_multiple_of(PAGE_BYTES);
        self
    }

    /// The least alignment of every tensor in bytes, rounded up to a power of two, at most 256;
    /// 16 by default.
    ///
    /// Some kernels need 256. A tensor with another alignment in its file costs one more copy.
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

    /// Whether all tensors of a group have one dtype, as some frameworks need; not by default.
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

/// Readers of a load to a GPU: with 12 to 16 the bus is the limit.
pub(crate) fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(16))
}
