//! Dividing units among devices of limited memory.
//!
//! Neighbours should be on one device, so units are first divided in their order.
//! Where no division in order fits, they are packed in any order; that search is complete unless
//! it needs more than [`STEPS`].

use std::collections::HashSet;

/// The most placements that the search tries.
const STEPS: usize = 200_000;

/// A unit to place: its size in bytes, and its device where that is fixed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) bytes: u64,
    pub(super) fixed: Option<usize>,
}

/// Why there is no division.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoDivision {
    /// None exists.
    Impossible,
    /// None was found within the limit of steps.
    NotFound,
}

/// Divides items in their order, each device filled before the next is begun.
pub(super) fn in_order(items: &[Item], room: &[u64]) -> Option<Vec<usize>> {
    let mut left = without_fixed(items, room)?;
    let mut device = 0;
    let mut devices = Vec::with_capacity(items.len());
    for item in items {
        if let Some(fixed) = item.fixed {
            devices.push(fixed);
            continue;
        }
        while *left.get(device)? < item.bytes {
            device += 1;
        }
        left[device] -= item.bytes;
        devices.push(device);
    }
    Some(devices)
}

/// Divides items in their order so that the fullest device holds as little as possible.
pub(super) fn balanced(items: &[Item], room: &[u64]) -> Option<Vec<usize>> {
    let most = room.iter().copied().max()?;
    let capped = |cap: u64| -> Vec<u64> { room.iter().map(|room| cap.min(*room)).collect() };
    in_order(items, room)?;
    // The least cap under which they fit: they fit under `high`, and not under `low`.
    let (mut low, mut high) = (0, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match in_order(items, &capped(middle)) {
            Some(_) => high = middle,
            None => low = middle,
        }
    }
    in_order(items, &capped(high))
}

/// Divides items in any order.
pub(super) fn in_any_order(items: &[Item], room: &[u64]) -> Result<Vec<usize>, NoDivision> {
    let left = without_fixed(items, room).ok_or(NoDivision::Impossible)?;
    let mut free: Vec<usize> = (0..items.len())
        .filter(|item| items[*item].fixed.is_none())
        .collect();
    // Large ones first; among equals, in their order.
    free.sort_by_key(|item| std::cmp::Reverse(items[*item].bytes));
    let sizes: Vec<u64> = free.iter().map(|item| items[*item].bytes).collect();
    let placed = Search::new(&sizes, left).run()?;
    let mut devices: Vec<usize> = items.iter().map(|item| item.fixed.unwrap_or(0)).collect();
    for (item, device) in free.into_iter().zip(placed) {
        devices[item] = device;
    }
    Ok(devices)
}

/// The room that fixed items leave; `None` if they do not fit.
fn without_fixed(items: &[Item], room: &[u64]) -> Option<Vec<u64>> {
    let mut left = room.to_vec();
    for item in items {
        if let Some(device) = item.fixed {
            left[device] = left[device].checked_sub(item.bytes)?;
        }
    }
    Some(left)
}

/// A depth-first search, the largest item first and the tightest device first.
///
/// It keeps its own stack: there may be as many items as tensors.
struct Search<'a> {
    /// Sizes in falling order.
    sizes: &'a [u64],
    /// The bytes that the items from each position on need.
    needed: Vec<u64>,
    left: Vec<u64>,
    /// The devices of the items placed so far.
    placed: Vec<usize>,
    /// Devices that were not tried yet, for each item placed so far and the next.
    untried: Vec<Vec<usize>>,
    /// States that lead nowhere: the next item and the room left, sorted.
    failed: HashSet<(usize, Vec<u64>)>,
}

impl<'a> Search<'a> {
    fn new(sizes: &'a [u64], left: Vec<u64>) -> Self {
        let mut needed: Vec<u64> = sizes.to_vec();
        for position in (1..needed.len()).rev() {
            needed[position - 1] = needed[position - 1].saturating_add(needed[position]);
        }
        Self {
            sizes,
            needed,
            left,
            placed: Vec::new(),
            untried: Vec::new(),
            failed: HashSet::new(),
        }
    }

    /// The device of each item.
    fn run(mut self) -> Result<Vec<usize>, NoDivision> {
        // Items without bytes fit anywhere.
        let count = self.sizes.partition_point(|size| *size > 0);
        let mut steps = 0;
        while self.placed.len() < count {
            if self.untried.len() == self.placed.len() {
                let candidates = self.candidates();
                self.untried.push(candidates);
            }
            let item = self.placed.len();
            match self.untried[item].pop() {
                Some(device) => {
                    steps += 1;
                    if steps > STEPS {
                        return Err(NoDivision::NotFound);
                    }
                    self.left[device] -= self.sizes[item];
                    self.placed.push(device);
                }
                None => {
                    let state = self.state();
                    self.failed.insert(state);
                    self.untried.pop();
                    let device = self.placed.pop().ok_or(NoDivision::Impossible)?;
                    self.left[device] += self.sizes[item - 1];
                }
            }
        }
        self.placed.resize(self.sizes.len(), 0);
        Ok(self.placed)
    }

    /// The devices worth trying for the next item, the last one first.
    fn candidates(&self) -> Vec<usize> {
        let item = self.placed.len();
        let size = self.sizes[item];
        let room = self
            .left
            .iter()
            .fold(0, |sum: u64, left| sum.saturating_add(*left));
        if room < self.needed[item] || self.failed.contains(&self.state()) {
            return Vec::new();
        }
        let fitting = (0..self.left.len()).filter(|device| self.left[*device] >= size);
        let mut devices: Vec<usize> = fitting.collect();
        devices.sort_by_key(|device| std::cmp::Reverse(self.left[*device]));
        // Devices with equal room are interchangeable.
        devices.dedup_by_key(|device| self.left[*device]);
        devices
    }

    fn state(&self) -> (usize, Vec<u64>) {
        let mut left = self.left.clone();
        left.sort_unstable();
        (self.placed.len(), left)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(sizes: &[u64]) -> Vec<Item> {
        let item = |bytes: &u64| Item {
            bytes: *bytes,
            fixed: None,
        };
        sizes.iter().map(item).collect()
    }

    fn fits(items: &[Item], room: &[u64], devices: &[usize]) -> bool {
        let mut left = room.to_vec();
        items.iter().zip(devices).all(|(item, device)| {
            let rest = left[*device].checked_sub(item.bytes);
            left[*device] = rest.unwrap_or(0);
            rest.is_some() && item.fixed.is_none_or(|fixed| fixed == *device)
        })
    }

    /// Tries every division.
    fn exists(items: &[Item], room: &[u64]) -> bool {
        let ways = room.len().pow(items.len() as u32);
        (0..ways).any(|mut way| {
            let devices = items.iter().map(|_| {
                let device = way % room.len();
                way /= room.len();
                device
            });
            fits(items, room, &devices.collect::<Vec<_>>())
        })
    }

    #[test]
    fn an_embedding_too_large_for_the_first_device_goes_to_the_second() {
        let mut sizes = vec![46_900_000];
        sizes.extend([7_100_000; 6]);
        sizes.push(1_400_000);
        let (items, room) = (items(&sizes), [46_400_000, 54_400_000]);
        assert!(in_order(&items, &room).is_none());
        let devices = in_any_order(&items, &room).unwrap();
        assert!(fits(&items, &room, &devices));
    }

    #[test]
    fn a_search_without_end_stops() {
        // Odd sizes into even halves of an odd sum: nearly every state differs.
        let sizes: Vec<u64> = (0..60).map(|i| 1_000_003 + i * i * 7919).collect();
        let sum: u64 = sizes.iter().sum();
        let room = [sum / 3, sum / 3, sum / 3];
        let result = in_any_order(&items(&sizes), &room);
        if let Ok(devices) = &result {
            assert!(fits(&items(&sizes), &room, devices));
        }
    }

    proptest! {
        #[test]
        fn a_division_is_found_if_there_is_one(
            sizes in prop::collection::vec((0u64..20, prop::option::weighted(0.1, 0usize..2)), 0..7),
            room in prop::collection::vec(0u64..40, 2..4),
        ) {
            let items: Vec<Item> = sizes
                .iter()
                .map(|(bytes, fixed)| Item { bytes: *bytes, fixed: *fixed })
                .collect();
            let found = in_any_order(&items, &room);
            prop_assert_eq!(found.is_ok(), exists(&items, &room));
            let ways = [found.ok(), in_order(&items, &room), balanced(&items, &room)];
            for devices in ways.into_iter().flatten() {
                prop_assert!(fits(&items, &room, &devices));
            }
        }

        #[test]
        fn balanced_is_never_fuller_than_in_order(
            sizes in prop::collection::vec(0u64..20, 1..12),
            room in prop::collection::vec(0u64..60, 1..4),
        ) {
            let items = items(&sizes);
            let fullest = |devices: &[usize]| {
                let mut held = vec![0; room.len()];
                for (item, device) in items.iter().zip(devices) {
                    held[*device] += item.bytes;
                }
                held.into_iter().max()
            };
            let (one, other) = (balanced(&items, &room), in_order(&items, &room));
            prop_assert_eq!(one.is_some(), other.is_some());
            if let (Some(one), Some(other)) = (one, other) {
                prop_assert!(fullest(&one) <= fullest(&other));
            }
        }
    }
}
