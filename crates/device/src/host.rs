use tensorlift_storage::{Anonymous, os};

use crate::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostPool};

/// The group of a single tensor of fewer bytes comes from the heap: of its own pages, it would
/// take a whole one for each few bytes.
const SMALL_BYTES: usize = 32 << 10;
/// How memory from the heap is aligned, as far as that is enough.
const SMALL_ALIGNMENT: usize = 64;

/// Host memory with advised huge pages, aligned to 2 MiB if it is as long as one.
#[derive(Clone, Debug)]
pub struct HostDevice {
    tensor_alignment: usize,
    exact: bool,
    pool: Option<HostPool>,
}

impl Default for HostDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl HostDevice {
    /// Host memory in which tensors are aligned to their element size.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tensor_alignment: 1,
            exact: false,
            pool: None,
        }
    }

    /// Aligns every tensor to at least this many bytes, rounded up to a power of two: 64 suits
    /// vector code.
    /// A tensor with another alignment in its file gets a separate place, at the cost of a separate
    /// read.
    #[must_use]
    pub const fn with_tensor_alignment(mut self, bytes: usize) -> Self {
        self.tensor_alignment = match bytes.checked_next_power_of_two() {
            // A group's start is aligned to a page at most.
            Some(bytes) if bytes <= 4096 => bytes,
            _ => 4096,
        };
        self
    }
}

impl HostDevice {
    /// Gives every tensor its own allocation, so that each can be freed separately.
    #[must_use]
    pub const fn with_exact_groups(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Takes memory from a pool, and returns it there with the last tensor in it.
    #[must_use]
    pub fn with_pool(mut self, pool: HostPool) -> Self {
        self.pool = Some(pool);
        self
    }
}

impl Device for HostDevice {
    fn name(&self) -> String {
        "host".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules {
            tensor_alignment: self.tensor_alignment,
            exact: self.exact,
            ..GroupRules::default()
        }
    }

    /// Rejects more memory than the system says it has: the system would grant it anyway, and kill
    /// the process later.
    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        let Some(free) = os::available_memory() else {
            return Ok(());
        };
        let fits = match &self.pool {
            Some(pool) => pool.reserve(bytes, free),
            None => bytes <= free,
        };
        match fits {
            true => Ok(()),
            false => Err(DeviceError::OutOfMemory {
                device: self.name(),
                needed: bytes,
                free,
            }),
        }
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let is_small = request.entry.is_some() && request.bytes < SMALL_BYTES;
        if is_small && self.pool.is_none() && self.tensor_alignment <= SMALL_ALIGNMENT {
            return Ok(Box::new(HostGroup::small(request.bytes)));
        }
        let bytes = request.bytes.saturating_add(request.page_offset);
        let taken = match &self.pool {
            Some(pool) => pool.take(bytes),
            None => Anonymous::new(bytes),
        };
        let memory = taken.map_err(|source| DeviceError::Allocation {
            device: self.name(),
            needed: request.bytes as u64,
            source,
        })?;
        Ok(Box::new(HostGroup {
            memory: Memory::Pages(memory),
            start: request.page_offset,
            len: request.bytes,
            pool: self.pool.clone(),
        }))
    }
}

#[derive(Debug)]
struct HostGroup {
    /// From a pool, it may be longer than the group.
    memory: Memory,
    start: usize,
    len: usize,
    pool: Option<HostPool>,
}

#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    Pages(Anonymous),
}

impl HostGroup {
    fn small(len: usize) -> Self {
        let memory = vec![0; len + SMALL_ALIGNMENT - 1];
        let address = memory.as_ptr().addr();
        Self {
            start: address.next_multiple_of(SMALL_ALIGNMENT) - address,
            memory: Memory::Heap(memory),
            len,
            pool: None,
        }
    }
}

impl Group for HostGroup {
    fn len(&self) -> usize {
        self.len
    }

    fn destination(&mut self) -> Destination<'_> {
        let memory: &mut [u8] = match &mut self.memory {
            Memory::Heap(memory) => memory,
            Memory::Pages(memory) => memory,
        };
        Destination::Host(&mut memory[self.start..][..self.len])
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        let memory: &[u8] = match &self.memory {
            Memory::Heap(memory) => memory,
            Memory::Pages(memory) => memory,
        };
        Some(&memory[self.start..][..self.len])
    }
}

impl Drop for HostGroup {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Heap(Vec::new()));
        if let (Memory::Pages(memory), Some(pool)) = (memory, &self.pool) {
            pool.give_back(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};

    use super::*;

    #[test]
    fn small_tensors_share_pages() {
        let mut builder = Catalog::builder();
        let extent = Extent::new(ShardId::FIRST, 0, 4);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([4]).unwrap();
        builder
            .entry("t", Dtype::U8, layout, View::whole(record))
            .unwrap();
        let catalog = builder.finish();
        let entry = &catalog.entries()[0];
        let request = GroupRequest::new(4).entry(entry).page_offset(100);
        let device = HostDevice::new().with_exact_groups();
        let groups: Vec<_> = (0..1000)
            .map(|_| device.allocate(&request).unwrap())
            .collect();
        let addresses = groups
            .iter()
            .map(|group| group.as_host().unwrap().as_ptr().addr());
        let pages: HashSet<usize> = addresses.clone().map(|address| address / 4096).collect();
        assert!(pages.len() < 200, "{} pages", pages.len());
        assert!(
            addresses
                .into_iter()
                .all(|address| address % SMALL_ALIGNMENT == 0)
        );
        assert!(groups.iter().all(|group| group.as_host() == Some(&[0; 4])));
        // One that must begin where a page does takes pages.
        let aligned = device
            .with_tensor_alignment(4096)
            .allocate(&GroupRequest::new(4).entry(entry));
        assert_eq!(
            aligned.unwrap().as_host().unwrap().as_ptr().addr() % 4096,
            0
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pool_counts_for_the_next_load() {
        let free = os::available_memory().unwrap();
        let pool = HostPool::new(usize::MAX);
        let device = HostDevice::new().with_pool(pool.clone());
        // No page of it is touched.
        let bytes = usize::try_from(free / 2).unwrap();
        let dtype = None;
        drop(
            device
                .allocate(&GroupRequest::new(bytes).dtype(dtype))
                .unwrap(),
        );
        let needed = free + free / 4;
        assert!(HostDevice::new().reserve(needed).is_err());
        device.reserve(needed).unwrap();
        assert!(device.reserve(free * 2).is_err());
    }
}
