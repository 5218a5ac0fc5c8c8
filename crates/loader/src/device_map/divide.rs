//! Dividing units among devices, and the errors if they do not fit.

use std::collections::BTreeMap;

use tensorlift_tensor_meta::{Catalog, Error, ErrorKind};

use super::memory::{DeviceKey, DeviceMemory};
use super::options::{DeviceMapOptions, Division};
use super::pack::{self, Item, NoDivision};
use super::units::Unit;

/// Names that an error lists before it counts the rest.
const LISTED_NAMES: usize = 10;

pub(super) fn check_devices(
    memory: &[DeviceMemory],
    options: &DeviceMapOptions,
) -> Result<(), Error> {
    let mut faults = Vec::new();
    if memory.is_empty() {
        faults.push("expected at least one device, found none".to_owned());
    }
    for (position, one) in memory.iter().enumerate() {
        let mut before = memory[..position].iter();
        if before.any(|other| other.device == one.device) {
            faults.push(format!("device {} is given twice", one.device));
        }
    }
    for (pattern, device) in &options.fixed {
        if !memory.iter().any(|memory| memory.device == *device) {
            faults.push(format!(
                "{pattern} is placed on device {device}, which has no memory"
            ));
        }
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Misuse, faults.join("; "))),
    }
}

/// Units as packing sees them.
pub(super) fn items(
    catalog: &Catalog,
    units: &[Unit],
    memory: &[DeviceMemory],
    options: &DeviceMapOptions,
) -> Result<Vec<Item>, Error> {
    let (mut items, mut faults) = (Vec::with_capacity(units.len()), Vec::new());
    for unit in units {
        match item(catalog, unit, memory, options) {
            Ok(item) => items.push(item),
            Err(fault) => faults.push(fault),
        }
    }
    match faults.len() {
        0 => return Ok(items),
        1 => return Err(faults.remove(0)),
        _ => {}
    }
    let shown = faults.iter().take(LISTED_NAMES).map(ToString::to_string);
    let mut found = shown.collect::<Vec<String>>().join("; ");
    if faults.len() > LISTED_NAMES {
        found += &format!("; and {} more", faults.len() - LISTED_NAMES);
    }
    Err(Error::new(ErrorKind::Misuse, found))
}

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
            Error::new(ErrorKind::Misuse, found).with_remedy("place all of it on one device")
        );
    }
    let device = fixed.into_keys().next();
    Ok(Item {
        bytes: unit.bytes,
        fixed: device.and_then(|key| memory.iter().position(|memory| memory.device == key)),
    })
}

pub(super) fn divide(
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
    // Fixed items may be on the host in addition.
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

pub(super) fn does_not_fit(units: &[Unit], memory: &[DeviceMemory], reason: &NoDivision) -> Error {
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
