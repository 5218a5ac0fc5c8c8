//! Units that are not split: layers, and tensors that share bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use tensorlift_tensor_meta::{Catalog, Entry, RecordId};

use super::options::DeviceMapOptions;

/// Room for the alignment of a tensor.
const PLACE_BYTES: u64 = 256;

/// Tensors that go to one device.
#[derive(Debug)]
pub(super) struct Unit {
    /// The module or the tensor that it is named after.
    pub(super) name: String,
    /// The positions of its entries in the catalog.
    pub(super) entries: Vec<usize>,
    pub(super) bytes: u64,
}

/// The units of a catalog, in the natural order of their names.
pub(super) fn units(catalog: &Catalog, options: &DeviceMapOptions) -> Vec<Unit> {
    let entries = catalog.entries();
    let mut groups = Groups::new(entries.len());
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut by_record: HashMap<RecordId, usize> = HashMap::new();
    for (position, entry) in entries.iter().enumerate() {
        let name = options.unit_name(entry.name());
        groups.join(*by_name.entry(name).or_insert(position), position);
        let record = entry.view().record;
        groups.join(*by_record.entry(record).or_insert(position), position);
    }
    for tied in &options.tied {
        let mut positions = tied.iter().filter_map(|name| catalog.position(name));
        if let Some(first) = positions.next() {
            positions.for_each(|position| groups.join(first, position));
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for position in 0..entries.len() {
        members
            .entry(groups.root(position))
            .or_default()
            .push(position);
    }
    let mut units: Vec<Unit> = members
        .into_values()
        .map(|members| unit(catalog, options, members))
        .collect();
    units.sort_by(|one, other| natural(&one.name, &other.name));
    units
}

fn unit(catalog: &Catalog, options: &DeviceMapOptions, members: Vec<usize>) -> Unit {
    let entries = members.iter().map(|position| &catalog.entries()[*position]);
    let names = entries.clone().map(|entry| options.unit_name(entry.name()));
    let name = names.min_by(|one, other| natural(one, other)).unwrap_or("");
    // Tensors that share a record share its bytes, or at least those that are read.
    let mut records: HashMap<RecordId, u64> = HashMap::new();
    for entry in entries {
        let bytes = bytes(catalog, options, entry);
        let most = records.entry(entry.view().record).or_default();
        *most = bytes.max(*most);
    }
    let bytes = records
        .values()
        .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    Unit {
        name: name.to_owned(),
        bytes,
        entries: members,
    }
}

/// The bytes that the record of an entry takes, at most, once it is loaded.
fn bytes(catalog: &Catalog, options: &DeviceMapOptions, entry: &Entry) -> u64 {
    let record = catalog.record(entry).len().unwrap_or(0);
    let bytes = match (options.bytes_of)(entry) {
        Some(bytes) => bytes,
        None => record,
    };
    bytes
        .checked_next_multiple_of(PLACE_BYTES)
        .unwrap_or(u64::MAX)
}

/// Disjoint sets of positions.
struct Groups {
    parents: Vec<usize>,
}

impl Groups {
    fn new(len: usize) -> Self {
        Self {
            parents: (0..len).collect(),
        }
    }

    fn root(&mut self, position: usize) -> usize {
        let mut root = position;
        while self.parents[root] != root {
            self.parents[root] = self.parents[self.parents[root]];
            root = self.parents[root];
        }
        root
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The first of a set is its root.
        self.parents[one.max(other)] = one.min(other);
    }
}

/// Compares names part by part, numbers by their value: `layers.2` is before `layers.10`.
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let mut others = other.split('.');
    for part in one.split('.') {
        let Some(other) = others.next() else {
            return Ordering::Greater;
        };
        let order = match (part.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            _ => part.cmp(other),
        };
        if order.is_ne() {
            return order;
        }
    }
    match others.next() {
        Some(_) => Ordering::Less,
        None => one.cmp(other),
    }
}
