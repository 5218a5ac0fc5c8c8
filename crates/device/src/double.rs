//! Test doubles: devices on host memory that behave like others.
//!
//! They show that the traits support devices unknown to this crate, and let loaders be tested
//! without hardware.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    CopyRun, Destination, Device, DeviceError, Group, GroupRequest, GroupRules, Lane, LanePool,
    Staging,
};

/// A device that, like a GPU, is written only by copies from a few staging slots.
///
/// It fails on demand, and counts what is alive.
#[derive(Clone, Debug)]
pub struct StagedDevice {
    shared: Arc<Shared>,
    rules: GroupRules,
    memory: u64,
}

#[derive(Debug)]
struct Shared {
    pool: LanePool<Vec<u8>>,
    slot_bytes: usize,
    lanes: usize,
    most_lent: AtomicUsize,
    copies: AtomicUsize,
    failing_copy: Option<usize>,
    live_groups: AtomicUsize,
}

impl StagedDevice {
    /// A device with this many lanes, each of one slot of `slot_bytes` bytes.
    #[must_use]
    pub fn new(lanes: usize, slot_bytes: usize) -> Self {
        let shared = Shared {
            pool: LanePool::default(),
            slot_bytes,
            lanes,
            most_lent: AtomicUsize::new(0),
            copies: AtomicUsize::new(0),
            failing_copy: None,
            live_groups: AtomicUsize::new(0),
        };
        for _ in 0..lanes {
            shared.pool.add(vec![0; slot_bytes]);
        }
        let rules = GroupRules {
            tensor_alignment: 16,
            ..GroupRules::default()
        };
        Self {
            shared: Arc::new(shared),
            rules,
            memory: u64::MAX,
        }
    }

    /// The same device, whose copy number `copy` (from 0) fails.
    ///
    /// # Panics
    /// If the device is in use already.
    #[must_use]
    pub fn failing_at(mut self, copy: usize) -> Self {
        Arc::get_mut(&mut self.shared)
            .expect("a device not in use")
            .failing_copy = Some(copy);
        self
    }

    /// The same device with other rules for groups.
    #[must_use]
    pub fn with_rules(mut self, rules: GroupRules) -> Self {
        self.rules = rules;
        self
    }

    /// The same device with this much memory, in bytes.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Groups allocated and not dropped.
    #[must_use]
    pub fn live_groups(&self) -> usize {
        self.shared.live_groups.load(Ordering::SeqCst)
    }

    /// Lanes that nobody holds.
    #[must_use]
    pub fn free_lanes(&self) -> usize {
        self.shared.pool.free()
    }

    /// Lanes in all.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.shared.lanes
    }

    /// The most lanes that were held at once so far.
    #[must_use]
    pub fn most_lanes_held(&self) -> usize {
        self.shared.most_lent.load(Ordering::SeqCst)
    }

    /// Copies started so far.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.shared.copies.load(Ordering::SeqCst)
    }
}

impl Device for StagedDevice {
    fn name(&self) -> String {
        "staged".into()
    }

    fn rules(&self) -> GroupRules {
        self.rules
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        match bytes <= self.memory {
            true => Ok(()),
            false => Err(DeviceError::OutOfMemory {
                device: self.name(),
                needed: bytes,
                free: self.memory,
            }),
        }
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        self.shared.live_groups.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(StagedGroup {
            memory: Mutex::new(vec![0; request.bytes]),
            finished: Vec::new(),
            len: request.bytes,
            device: Arc::clone(&self.shared),
        }))
    }
}

#[derive(Debug)]
struct StagedGroup {
    memory: Mutex<Vec<u8>>,
    finished: Vec<u8>,
    len: usize,
    device: Arc<Shared>,
}

impl Group for StagedGroup {
    fn len(&self) -> usize {
        self.len
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Staged(self)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        let memory = self
            .memory
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        self.finished = std::mem::take(memory);
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        Some(&self.finished)
    }
}

impl Drop for StagedGroup {
    fn drop(&mut self) {
        self.device.live_groups.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Staging for StagedGroup {
    fn lane(&self) -> Result<Box<dyn Lane + '_>, DeviceError> {
        let memory = self.device.pool.take();
        let held = self.device.lanes - self.device.pool.free();
        self.device.most_lent.fetch_max(held, Ordering::SeqCst);
        Ok(Box::new(StagedLane {
            memory,
            len: 0,
            group: self,
        }))
    }

    fn lanes(&self) -> usize {
        self.device.lanes
    }

    fn slots(&self) -> usize {
        1
    }

    fn slot_bytes(&self) -> usize {
        self.device.slot_bytes
    }
}

struct StagedLane<'a> {
    memory: Vec<u8>,
    /// The length requested of the slot last.
    len: usize,
    group: &'a StagedGroup,
}

impl Lane for StagedLane<'_> {
    fn slot(&mut self, len: usize) -> Result<&mut [u8], DeviceError> {
        let found = self.memory.len();
        if len > found {
            let device = "staged".into();
            return Err(DeviceError::StagingTooSmall {
                device,
                needed: len,
                found,
            });
        }
        self.len = len;
        Ok(&mut self.memory[..len])
    }

    fn copy(&mut self, runs: &[CopyRun]) -> Result<(), DeviceError> {
        let device = &self.group.device;
        let mut memory = self
            .group
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            let number = device.copies.fetch_add(1, Ordering::SeqCst);
            if Some(number) == device.failing_copy {
                return Err(DeviceError::Failed {
                    device: "staged".into(),
                    operation: format!("copy {} bytes", run.len),
                    source: "told to fail".into(),
                });
            }
            let from = &self.memory[..self.len][run.from..][..run.len];
            memory[run.to..][..run.len].copy_from_slice(from);
        }
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        self.group.device.pool.is_wanted()
    }
}

impl Drop for StagedLane<'_> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.group.device.pool.give_back(memory);
    }
}
