use tensorlift_loader::{DeviceKey, DeviceMemory};
use tensorlift_storage::os;

/// The devices of this machine with the bytes that each has free now, for
/// [`DeviceMap::new`](crate::DeviceMap::new): GPUs by their number, with the feature `cuda`, then
/// the host.
///
/// GPUs that do not answer are left out, as are all where there is no driver. Asking a GPU starts
/// it, which takes some tenths of a second.
///
/// ```
/// use tensorlift::{Checkpoint, DeviceMap, DeviceMapOptions, free_memory};
///
/// # fn main() -> tensorlift::Result<()> {
/// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
/// let map = DeviceMap::new(checkpoint.catalog(), &free_memory(), &DeviceMapOptions::default())?;
/// print!("{map}");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn free_memory() -> Vec<DeviceMemory> {
    let mut memory = gpus();
    let host = os::available_memory().unwrap_or(u64::MAX);
    memory.push(DeviceMemory::new(DeviceKey::Cpu, host));
    memory
}

#[cfg(feature = "cuda-unversioned")]
fn gpus() -> Vec<DeviceMemory> {
    use crate::cuda::{CudaDevice, survey};

    let devices = survey().map(|survey| survey.devices).unwrap_or_default();
    let free = |ordinal| CudaDevice::new(ordinal).and_then(|device| device.free_bytes());
    let memory = devices.iter().filter_map(|device| {
        let key = DeviceKey::Cuda(device.ordinal);
        Some(DeviceMemory::new(key, free(device.ordinal).ok()?))
    });
    memory.collect()
}

#[cfg(not(feature = "cuda-unversioned"))]
fn gpus() -> Vec<DeviceMemory> {
    Vec::new()
}
