//! A suite that every device passes, for implementors of devices.
//!
//! ```
//! use tensorlift_device::{HostDevice, conformance};
//!
//! conformance::check(&HostDevice::new(), |group| group.as_host().unwrap().to_vec());
//! ```

use std::thread;

use crate::{CopyRun, Destination, Device, Group, GroupRequest, Lane, Staging};
use tensorlift_tensor_meta::Dtype;

/// Group sizes around the edges that devices have: nothing, one byte, pages, several buffers.
const SIZES: [usize; 7] = [0, 1, 15, 4096, 4097, 70_001, 300_000];
/// Threads that fill one group.
const THREADS: usize = 3;
/// The most that one staging slot is asked to hold, so that several are needed.
const CHUNK: usize = 20_000;

/// Checks a device; `bytes` reads a finished group back.
///
/// # Panics
/// If the device breaks a promise of the traits.
pub fn check(device: &dyn Device, bytes: impl Fn(&dyn Group) -> Vec<u8>) {
    assert!(!device.name().is_empty());
    let rules = device.rules();
    assert!(rules.tensor_alignment.is_power_of_two());
    device.reserve(0).expect("nothing fits everywhere");
    for len in SIZES {
        let mut group = allocate(device, len);
        fill(group.as_mut(), &|i| pattern(i, 2));
        group.finish().expect("every copy was good");
        let expected: Vec<u8> = (0..len).map(|i| pattern(i, 2)).collect();
        assert!(bytes(group.as_ref()) == expected, "{len} bytes differ");
        if let Some(host) = group.as_host() {
            assert!(host == expected, "{len} bytes differ in place");
        }
    }
    // Groups stay apart.
    let mut groups: Vec<_> = (0..3).map(|_| allocate(device, 5000)).collect();
    for (salt, group) in groups.iter_mut().enumerate() {
        fill(group.as_mut(), &|i| pattern(i, salt));
    }
    for (salt, group) in groups.iter_mut().enumerate() {
        group.finish().expect("every copy was good");
        let expected: Vec<u8> = (0..5000).map(|i| pattern(i, salt)).collect();
        assert!(bytes(group.as_ref()) == expected, "group {salt} differs");
    }
    drop_half_filled(device);
    scatter(device, &bytes);
    if rules.one_dtype {
        every_dtype(device, &bytes);
    }
}

/// Groups of each dtype that the device accepts, of which there must be one.
fn every_dtype(device: &dyn Device, bytes: &impl Fn(&dyn Group) -> Vec<u8>) {
    let mut taken = 0;
    for &dtype in Dtype::ALL {
        // Whole elements of every width, packed ones too.
        for len in [0, 48, 16 * 1000] {
            let request = GroupRequest::new(len).dtype(dtype);
            let Ok(mut group) = device.allocate(&request) else {
                continue;
            };
            assert_eq!(group.len(), len, "a group of {dtype}");
            fill(group.as_mut(), &|i| pattern(i, 1) & 1);
            group.finish().expect("every copy was good");
            let expected: Vec<u8> = (0..len).map(|i| pattern(i, 1) & 1).collect();
            let found = bytes(group.as_ref());
            assert!(found == expected, "{len} bytes of {dtype} differ");
            taken += 1;
        }
    }
    assert!(taken > 0, "no group of any dtype");
}

fn allocate(device: &dyn Device, bytes: usize) -> Box<dyn Group> {
    let dtype = device.rules().one_dtype.then_some(Dtype::U8);
    let group = device
        .allocate(&GroupRequest::new(bytes).dtype(dtype))
        .expect("the group fits");
    assert_eq!(group.len(), bytes);
    assert_eq!(group.is_empty(), bytes == 0);
    group
}

fn fill(group: &mut dyn Group, content: &(dyn Fn(usize) -> u8 + Sync)) {
    let len = group.len();
    match group.destination() {
        Destination::Host(host) => {
            assert_eq!(host.len(), len);
            host.iter_mut()
                .enumerate()
                .for_each(|(i, b)| *b = content(i));
        }
        Destination::Staged(staging) => {
            let chunk = staging.slot_bytes().min(CHUNK);
            assert!(chunk > 0 && staging.lanes() > 0 && staging.slots() > 0);
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    scope.spawn(move || {
                        let starts = (0..len).step_by(chunk).skip(thread).step_by(THREADS);
                        let mut held = None;
                        for start in starts {
                            let lane = held.get_or_insert_with(|| lend(staging));
                            send(lane.as_mut(), start, chunk.min(len - start), content);
                            // Half of the chunks with a lane of their own, where there are few.
                            if lane.is_wanted() || start % 2 == 1 {
                                held = None;
                            }
                        }
                    });
                }
            });
        }
    }
}

fn lend(staging: &dyn Staging) -> Box<dyn Lane + '_> {
    staging.lane().expect("a lane is free")
}

/// Sends bytes through one slot, as two runs where there is more than one byte.
fn send(lane: &mut dyn Lane, start: usize, len: usize, content: &dyn Fn(usize) -> u8) {
    let bytes = lane.slot(len).expect("a slot is free");
    assert_eq!(bytes.len(), len);
    (bytes.iter_mut().enumerate()).for_each(|(i, b)| *b = content(start + i));
    let runs = [(0, len / 2), (len / 2, len - len / 2)].map(|(from, len)| CopyRun {
        from,
        to: start + from,
        len,
    });
    lane.copy(&runs).expect("the copy starts");
}

/// Lanes that are returned unused, and groups that are dropped while they are filled.
fn drop_half_filled(device: &dyn Device) {
    for _ in 0..20 {
        let mut group = allocate(device, 10_000);
        if let Destination::Staged(staging) = group.destination() {
            let mut lane = lend(staging);
            lane.slot(1).expect("a slot is free");
            drop(lane);
            let mut lane = lend(staging);
            send(lane.as_mut(), 0, staging.slot_bytes().min(10_000), &|_| 1);
            let too_large = staging.slot_bytes().checked_add(1).expect("no such slot");
            // A device may have larger slots than it says, but must return the requested length.
            if let Ok(bytes) = lane.slot(too_large) {
                assert_eq!(bytes.len(), too_large);
            }
        }
    }
}

/// Runs in any order, at any alignment, overlapping in the slot; what no run covers may be
/// anything.
fn scatter(device: &dyn Device, bytes: &impl Fn(&dyn Group) -> Vec<u8>) {
    let mut group = allocate(device, 1000);
    let Destination::Staged(staging) = group.destination() else {
        return;
    };
    let mut lane = lend(staging);
    let slot = lane.slot(100).expect("a slot is free");
    (slot.iter_mut().enumerate()).for_each(|(i, b)| *b = i as u8);
    let run = |from, to, len| CopyRun { from, to, len };
    let runs = [
        run(50, 3, 50),
        run(0, 901, 99),
        run(99, 1, 1),
        run(7, 500, 0),
    ];
    lane.copy(&runs).expect("the copy starts");
    drop(lane);
    group.finish().expect("every copy was good");
    let found = bytes(group.as_ref());
    for run in runs {
        let expected: Vec<u8> = (run.from..run.from + run.len).map(|i| i as u8).collect();
        assert!(found[run.to..][..run.len] == expected, "{run:?} differs");
    }
}

fn pattern(i: usize, salt: usize) -> u8 {
    (i.wrapping_mul(31) ^ (i >> 8) ^ salt.wrapping_mul(0x55)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::StagedDevice;
    use crate::{HostDevice, VecDevice};

    #[test]
    fn the_devices_of_this_crate_conform() {
        let read = |group: &dyn Group| group.as_host().unwrap().to_vec();
        check(&HostDevice::new(), read);
        check(&VecDevice::new(), read);
        check(&VecDevice::new().with_exact_groups(), read);
        check(&StagedDevice::new(1, 4096), read);
        check(&StagedDevice::new(4, 30_000), read);
    }

    #[test]
    #[should_panic(expected = "bytes differ")]
    fn a_device_that_keeps_nothing_does_not() {
        check(&crate::NullDevice, |group| vec![0; group.len()]);
    }
}
