//! Placement by size: which tensors go to which device, computed from a catalog alone.
//!
//! ```
//! use tensorlift_loader::{DeviceKey, DeviceMap, DeviceMapOptions, DeviceMemory};
//! use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};
//!
//! let mut builder = Catalog::builder();
//! for layer in 0..4 {
//!     let extent = Extent::new(ShardId::FIRST, layer * 4096, 4096);
//!     let record = builder.record(Record::stored(extent))?;
//!     let name = format!("layers.{layer}.weight");
//!     builder.entry(name, Dtype::F32, Layout::contiguous([1024])?, View::whole(record))?;
//! }
//! let catalog = builder.finish();
//!
//! let memory: [DeviceMemory; 2] = ["0=10KB".parse()?, "cpu=10KB".parse()?];
//! let map = DeviceMap::new(&catalog, &memory, &DeviceMapOptions::default())?;
//! assert_eq!(map.device_of("layers.1.weight"), Some(DeviceKey::Cuda(0)));
//! assert_eq!(map.device_of("layers.2.weight"), Some(DeviceKey::Cpu));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod divide;
mod memory;
mod options;
mod pack;
mod units;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tensorlift_device::Device;
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind};

use crate::placement::Placement;
use divide::{check_devices, divide, does_not_fit, items};
use units::Unit;

pub use memory::{DeviceKey, DeviceMemory, parse_size};
pub use options::{DeviceMapOptions, Division};

/// Which tensors go to which device, in units that are not split.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceMap {
    units: Vec<PlacedUnit>,
    devices: Vec<DeviceUse>,
    #[serde(skip)]
    of_name: HashMap<String, usize>,
}

/// A layer, a module, or tensors that share bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PlacedUnit {
    /// The module or the tensor that it is named after.
    pub name: String,
    /// Where it goes.
    pub device: DeviceKey,
    /// Its size in bytes, with room for alignment.
    pub bytes: u64,
    /// How many tensors it has.
    pub tensors: usize,
}

/// The capacity and the contents of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DeviceUse {
    /// The device.
    pub device: DeviceKey,
    /// The bytes of the tensors on it, with room for alignment.
    pub bytes: u64,
    /// The most that it may hold.
    pub max_bytes: u64,
}

/// # Placing
impl DeviceMap {
    /// Divides the tensors of a catalog among devices.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if they do not fit; [`ErrorKind::Misuse`] if there is no
    /// device, one is named twice, or rules contradict each other.
    pub fn new(
        catalog: &Catalog,
        memory: &[DeviceMemory],
        options: &DeviceMapOptions,
    ) -> Result<Self, Error> {
        check_devices(memory, options)?;
        let units = units::units(catalog, options);
        let items = items(catalog, &units, memory, options)?;
        let room: Vec<u64> = memory.iter().map(|memory| memory.max_bytes).collect();
        let devices = divide(&items, memory, &room, options.division)
            .map_err(|reason| does_not_fit(&units, memory, &reason))?;
        Ok(Self::placed(catalog, units, memory, &devices))
    }

    fn placed(
        catalog: &Catalog,
        units: Vec<Unit>,
        memory: &[DeviceMemory],
        positions: &[usize],
    ) -> Self {
        let mut devices: Vec<DeviceUse> = memory
            .iter()
            .map(|memory| DeviceUse {
                device: memory.device,
                bytes: 0,
                max_bytes: memory.max_bytes,
            })
            .collect();
        let mut of_name = HashMap::with_capacity(catalog.len());
        let mut placed = Vec::with_capacity(units.len());
        for (unit, position) in units.into_iter().zip(positions) {
            devices[*position].bytes += unit.bytes;
            for entry in &unit.entries {
                of_name.insert(catalog.entries()[*entry].name().to_owned(), *position);
            }
            placed.push(PlacedUnit {
                name: unit.name,
                device: memory[*position].device,
                bytes: unit.bytes,
                tensors: unit.entries.len(),
            });
        }
        Self {
            units: placed,
            devices,
            of_name,
        }
    }

    /// The units, in the natural order of their names.
    #[must_use]
    pub fn units(&self) -> &[PlacedUnit] {
        &self.units
    }

    /// What each device holds, in the order in which the devices were given.
    #[must_use]
    pub fn devices(&self) -> &[DeviceUse] {
        &self.devices
    }

    /// The device of the tensor of this name.
    #[must_use]
    pub fn device_of(&self, name: &str) -> Option<DeviceKey> {
        let position = self.of_name.get(name)?;
        Some(self.devices[*position].device)
    }

    /// The placement on these devices, given in the order of [`devices`](Self::devices).
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if there is not one for each.
    pub fn placement(&self, devices: Vec<Arc<dyn Device>>) -> Result<Placement, Error> {
        if devices.len() != self.devices.len() {
            let (expected, found) = (self.devices.len(), devices.len());
            let found = format!("expected {expected} devices, found {found}");
            return Err(Error::new(ErrorKind::Misuse, found));
        }
        let of_name = self.of_name.clone();
        Ok(Placement::by(devices, move |entry| {
            of_name.get(entry.name()).copied().unwrap_or(0)
        }))
    }
}

/// The map: a line for each device, then one for each unit.
impl fmt::Display for DeviceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for device in &self.devices {
            let DeviceUse {
                device,
                bytes,
                max_bytes,
            } = device;
            writeln!(f, "device {device}: {bytes} of {max_bytes} bytes")?;
        }
        for unit in &self.units {
            let PlacedUnit {
                name,
                device,
                bytes,
                tensors,
            } = unit;
            let plural = if *tensors == 1 { "" } else { "s" };
            writeln!(
                f,
                "{name} = {device} ({tensors} tensor{plural}, {bytes} bytes)"
            )?;
        }
        Ok(())
    }
}
