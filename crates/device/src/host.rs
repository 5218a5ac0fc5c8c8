use tensorlift_storage::{Anonymous, os};

use crate::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostPool};

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
            memory: Some(memory),
            start: request.page_offset,
            len: request.bytes,
            pool: self.pool.clone(),
        }))
    }
}

#[derive(Debug)]
struct HostGroup {
    /// Present until the group is dropped; from a pool, it may be longer than the group.
    memory: Option<Anonymous>,
    start: usize,
    len: usize,
    pool: Option<HostPool>,
}

impl Group for HostGroup {
    fn len(&self) -> usize {
        self.len
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Host(
            self.memory
                .as_deref_mut()
                .map_or(&mut [], |bytes| &mut bytes[self.start..][..self.len]),
        )
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        self.memory
            .as_deref()
            .map(|bytes| &bytes[self.start..][..self.len])
    }
}

impl Drop for HostGroup {
    fn drop(&mut self) {
        if let (Some(memory), Some(pool)) = (self.memory.take(), &self.pool) {
            pool.give_back(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
