use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tensorlift_device::{Device, GroupRules, HostDevice};
use tensorlift_tensor_meta::{Entry, Error, ErrorKind};

/// Which entry goes to which device; [`DeviceMap`](crate::DeviceMap) computes one by sizes.
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

    /// Each entry on the device of the longest prefix that its name begins with, up to a dot: a
    /// device map. The empty prefix is the device of all others.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if there is no empty prefix, or a position without a device.
    pub fn by_prefix(
        devices: Vec<Arc<dyn Device>>,
        map: impl IntoIterator<Item = (impl Into<String>, usize)>,
    ) -> Result<Self, Error> {
        let map: HashMap<String, usize> = map
            .into_iter()
            .map(|(prefix, device)| (prefix.into(), device))
            .collect();
        if !map.contains_key("") {
            let found = "expected a device for the empty prefix, found none";
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_remedy("add an empty prefix for all other tensors"));
        }
        if let Some(device) = map.values().find(|device| **device >= devices.len()) {
            let found = format!("expected a device below {}, found {device}", devices.len());
            return Err(Error::new(ErrorKind::Misuse, found));
        }
        Ok(Self::by(devices, move |entry| {
            let name = entry.name();
            let dots = name.rmatch_indices('.').map(|(dot, _)| &name[..dot]);
            let prefixes = std::iter::once(name).chain(dots).chain(std::iter::once(""));
            // The empty prefix exists.
            prefixes
                .into_iter()
                .find_map(|prefix| map.get(prefix).copied())
                .unwrap_or(0)
        }))
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

#[cfg(test)]
mod tests {
    use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};

    use super::*;

    fn catalog(names: &[&str]) -> Catalog {
        let mut builder = Catalog::builder();
        for (index, name) in names.iter().enumerate() {
            let extent = Extent::new(ShardId::FIRST, index as u64 * 1000, 1000);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([1000]).unwrap();
            builder
                .entry(*name, Dtype::U8, layout, View::whole(record))
                .unwrap();
        }
        builder.finish()
    }

    fn hosts(count: usize) -> Vec<Arc<dyn Device>> {
        (0..count)
            .map(|_| Arc::new(HostDevice::new()) as _)
            .collect()
    }

    fn devices(placement: &Placement, catalog: &Catalog) -> Vec<usize> {
        catalog
            .entries()
            .iter()
            .map(|entry| placement.device_of(entry))
            .collect()
    }

    #[test]
    fn the_longest_prefix_up_to_a_dot_decides() {
        let catalog = catalog(&["layers.1.w", "layers.10.w", "layers.1", "head.w", "x"]);
        let map = [("", 0), ("layers.1", 1), ("layers", 2), ("head.w", 1)];
        let placement = Placement::by_prefix(hosts(3), map).unwrap();
        assert_eq!(devices(&placement, &catalog), [1, 2, 1, 1, 0]);
        assert!(Placement::by_prefix(hosts(1), [("a", 0)]).is_err());
        assert!(Placement::by_prefix(hosts(1), [("", 1)]).is_err());
    }
}
