use std::fmt;
use std::sync::Arc;

use tensorlift_device::{Device, GroupRules, HostDevice};
use tensorlift_tensor_meta::Entry;

/// Which entry goes to which device.
#[derive(Clone)]
pub struct Placement {
    devices: Vec<Arc<dyn Device>>,
    assign: Arc<Assign>,
}

type Assign = dyn Fn(&Entry) -> usize + Send + Sync;

impl Placement {
    /// Every entry on this device.
    pub fn on(device: impl Device + 'static) -> Self {
        Self::by(vec![Arc::new(device)], |_| 0)
    }

    /// Each entry on the device whose position `assign` returns.
    pub fn by(
        devices: Vec<Arc<dyn Device>>,
        assign: impl Fn(&Entry) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self {
            devices,
            assign: Arc::new(assign),
        }
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &[Arc<dyn Device>] {
        &self.devices
    }

    /// The position of the device for an entry, as the caller's function gives it.
    #[must_use]
    pub fn device_of(&self, entry: &Entry) -> usize {
        (self.assign)(entry)
    }

    /// The demands of the devices, in their order.
    #[must_use]
    pub fn rules(&self) -> Vec<GroupRules> {
        self.devices.iter().map(|device| device.rules()).collect()
    }
}

impl Default for Placement {
    /// Every entry in host memory.
    fn default() -> Self {
        Self::on(HostDevice::new())
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement")
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}
