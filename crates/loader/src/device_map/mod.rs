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

mod memory;
mod pack;
mod units;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tensorlift_device::Device;
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind};

use crate::pattern::Pattern;
use crate::placement::Placement;

pub use memory::{DeviceKey, DeviceMemory, parse_size};
use pack::{Item, NoDivision};
use units::Unit;

/// Names that an error lists before it counts the rest.
const LISTED_NAMES: usize = 10;

/// How tensors are divided among devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Division {
    /// Evenly over the GPUs if they hold everything, otherwise one device after the other. The
    /// default.
    #[default]
    Auto,
    /// So that the fullest device holds as little as possible.
    Balanced,
    /// One device after the other.
    Sequential,
}

/// How tensors are placed.
#[derive(Clone)]
pub struct DeviceMapOptions {
    division: Division,
    fixed: Vec<(Pattern, DeviceKey)>,
    unsplit: Vec<Pattern>,
    tied: Vec<Vec<String>>,
    bytes_of: Arc<BytesOf>,
}

type BytesOf = dyn Fn(&Entry) -> Option<u64> + Send + Sync;

/// Which tensors go to which device, in units that are not split.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceMap {
    units: Vec<PlacedUnit>,
    devices: Vec<DeviceUse>,
    #[serde(skip)]
    of_name: HashMap<String, usize>,
}

/// A layer, a module, or tensors that share bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// What a device may hold and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceUse {
    /// The device.
    pub device: DeviceKey,
    /// The bytes of the tensors on it, with room for alignment.
    pub bytes: u64,
    /// The most that it may hold.
    pub max_bytes: u64,
}

impl Default for DeviceMapOptions {
    fn default() -> Self {
        Self {
            division: Division::default(),
            fixed: Vec::new(),
            unsplit: Vec::new(),
            tied: Vec::new(),
            bytes_of: Arc::new(|_| None),
        }
    }
}

/// # How to place
impl DeviceMapOptions {
    /// How tensors are divided that no pattern places. Default: [`Division::Auto`].
    #[must_use]
    pub fn division(mut self, division: Division) -> Self {
        self.division = division;
        self
    }

    /// Places what matches the pattern on this device; of several patterns that match, the one
    /// that fixes most characters decides.
    #[must_use]
    pub fn fix(mut self, pattern: impl Into<Pattern>, device: DeviceKey) -> Self {
        self.fixed.push((pattern.into(), device));
        self
    }

    /// Keeps each module whose name matches the pattern whole.
    ///
    /// Layers, which are modules named by a number, are always kept whole, and so are the
    /// parameters of one module outside of layers.
    #[must_use]
    pub fn unsplit(mut self, pattern: impl Into<Pattern>) -> Self {
        self.unsplit.push(pattern.into());
        self
    }

    /// Keeps tensors on one device that the model uses as one; those that share bytes in the
    /// checkpoint are always kept together.
    #[must_use]
    pub fn tie(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tied.push(names.into_iter().map(Into::into).collect());
        self
    }

    /// The bytes of tensors that are converted while they are loaded; `None` for the others.
    #[must_use]
    pub fn bytes_of(
        mut self,
        bytes: impl Fn(&Entry) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.bytes_of = Arc::new(bytes);
        self
    }

    /// The module or parameter that a name is kept together with.
    fn unit_name<'a>(&self, name: &'a str) -> &'a str {
        let modules = || name.match_indices('.').map(|(dot, _)| &name[..dot]);
        let is_unsplit = |module: &&str| {
            self.unsplit
                .iter()
                .any(|pattern| pattern.matches_whole(module))
        };
        let is_layer = |module: &&str| {
            let last = module.rsplit('.').next().unwrap_or(module);
            !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        };
        modules()
            .find(is_unsplit)
            .or_else(|| modules().find(is_layer))
            .or_else(|| modules().next_back())
            .unwrap_or(name)
    }

    /// The device of the most specific pattern that matches.
    fn fixed(&self, name: &str) -> Result<Option<DeviceKey>, Error> {
        let matching = || {
            self.fixed
                .iter()
                .filter(|(pattern, _)| pattern.matches(name))
        };
        let Some(most) = matching().map(|(pattern, _)| pattern.literals()).max() else {
            return Ok(None);
        };
        let best: Vec<_> = matching()
            .filter(|(pattern, _)| pattern.literals() == most)
            .collect();
        let device = best[0].1;
        if best.iter().all(|(_, other)| *other == device) {
            return Ok(Some(device));
        }
        let rules: Vec<String> = best
            .iter()
            .map(|(pattern, device)| format!("{pattern:?} = {device}", pattern = pattern.as_str()))
            .collect();
        let found = format!("rules contradict each other: {}", rules.join(", "));
        Err(Error::new(ErrorKind::Misuse, found)
            .with_tensor(name)
            .with_remedy("keep one of them, or write one that fixes more characters"))
    }
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
        let items = units
            .iter()
            .map(|unit| item(catalog, unit, memory, options))
            .collect::<Result<Vec<_>, Error>>()?;
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

    /// The placement on these devices, which stand in the order of [`devices`](Self::devices).
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

impl fmt::Debug for DeviceMapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMapOptions")
            .field("division", &self.division)
            .field("fixed", &self.fixed)
            .field("unsplit", &self.unsplit)
            .field("tied", &self.tied)
            .finish_non_exhaustive()
    }
}

fn check_devices(memory: &[DeviceMemory], options: &DeviceMapOptions) -> Result<(), Error> {
    let misuse = |found: String| Err(Error::new(ErrorKind::Misuse, found));
    if memory.is_empty() {
        return misuse("expected a device at least, found none".into());
    }
    for (position, one) in memory.iter().enumerate() {
        if memory[..position]
            .iter()
            .any(|other| other.device == one.device)
        {
            return misuse(format!("device {} is given twice", one.device));
        }
    }
    for (pattern, device) in &options.fixed {
        if !memory.iter().any(|memory| memory.device == *device) {
            return misuse(format!(
                "{pattern} is placed on device {device}, which has no memory"
            ));
        }
    }
    Ok(())
}

/// A unit as packing sees it.
fn item(
    catalog: &Catalog,
    unit: &Unit,
    memory: &[DeviceMemory],
    options: &DeviceMapOptions,
) -> Result<Item, Error> {
    let mut fixed: BTreeMap<DeviceKey, &str> = BTreeMap::new();
    for position in &unit.entries {
        let name = catalog.entries()[*position].name();
        if let Some(device) = options.fixed(name)? {
            fixed.entry(device).or_insert(name);
        }
    }
    if fixed.len() > 1 {
        let places: Vec<String> = fixed
            .iter()
            .map(|(device, name)| format!("{name:?} = {device}"))
            .collect();
        let found = format!(
            "{} stays on one device, but rules divide it: {}",
            unit.name,
            places.join(", ")
        );
        return Err(
            Error::new(ErrorKind::Misuse, found).with_remedy("place it whole, on one device")
        );
    }
    let device = fixed.into_keys().next();
    Ok(Item {
        bytes: unit.bytes,
        fixed: device.and_then(|key| memory.iter().position(|memory| memory.device == key)),
    })
}

fn divide(
    items: &[Item],
    memory: &[DeviceMemory],
    room: &[u64],
    division: Division,
) -> Result<Vec<usize>, NoDivision> {
    let gpus: Vec<u64> = memory
        .iter()
        .map(|memory| match memory.device {
            DeviceKey::Cpu => 0,
            DeviceKey::Cuda(_) => memory.max_bytes,
        })
        .collect();
    // Fixed items may be on the host beside that.
    let in_order = match division {
        Division::Auto => pack::balanced(items, &gpus).or_else(|| pack::in_order(items, room)),
        Division::Balanced => pack::balanced(items, room),
        Division::Sequential => pack::in_order(items, room),
    };
    match in_order {
        Some(devices) => Ok(devices),
        None => pack::in_any_order(items, room),
    }
}

fn does_not_fit(units: &[Unit], memory: &[DeviceMemory], reason: &NoDivision) -> Error {
    let needed = units
        .iter()
        .fold(0, |sum: u64, unit| sum.saturating_add(unit.bytes));
    let sizes: Vec<String> = memory
        .iter()
        .map(|memory| format!("{}={}", memory.device, memory.max_bytes))
        .collect();
    let most = memory
        .iter()
        .map(|memory| memory.max_bytes)
        .max()
        .unwrap_or(0);
    let too_large: Vec<&str> = units
        .iter()
        .filter(|unit| unit.bytes > most)
        .map(|unit| unit.name.as_str())
        .collect();
    let listed = &too_large[..too_large.len().min(LISTED_NAMES)];
    let why = match reason {
        NoDivision::NotFound => "no division was found within the limit of the search".to_owned(),
        NoDivision::Impossible if !too_large.is_empty() => {
            format!("no device holds {}", listed.join(", "))
        }
        NoDivision::Impossible => "no division fits".to_owned(),
    };
    let found = format!(
        "{needed} bytes in {} units do not fit into {}: {why}",
        units.len(),
        sizes.join(", ")
    );
    Error::new(ErrorKind::LimitExceeded, found).with_remedy(
        "raise the sizes, add a device, load a narrower dtype, or select fewer tensors",
    )
}
