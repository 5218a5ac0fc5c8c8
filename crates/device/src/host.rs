use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tensorlift_memory::Anonymous;
use tensorlift_storage::os;

use crate::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostPool};

/// What groups of this process may take beyond what was asked for, in bytes, so that their last
/// huge page is one too: filling half of it in small pages takes longer than all else about a
/// small checkpoint.
static SPARE_BYTES: AtomicUsize = AtomicUsize::new(32 << 20);

/// Host memory: huge pages advised, and 2 MiB aligned where it is as long as one.
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
    /// A tensor that lies otherwise in its file gets a place of its own, at the cost of a read of
    /// its own.
    #[must_use]
    pub const fn with_tensor_alignment(mut self, bytes: usize) -> Self {
        self.tensor_alignment = match bytes.checked_next_power_of_two() {
            // A page is the most that the start of a group promises.
            Some(bytes) if bytes <= 4096 => bytes,
            _ => 4096,
        };
        self
    }
}

impl HostDevice {
    /// Gives every tensor an allocation of its own, so that each can be freed alone.
    #[must_use]
    pub const fn with_exact_groups(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Takes memory from a pool, and lets it go back there with the last tensor in it.
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

    /// Refuses more than the system says it can give: it would hand the memory out all the same,
    /// and end the process half-way.
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
            Some(pool) => pool.take(bytes).map(|memory| (memory, 0)),
            None => allocate(bytes),
        };
        let (memory, spare) = taken.map_err(|source| DeviceError::Allocation {
            device: self.name(),
            needed: request.bytes as u64,
            source,
        })?;
        Ok(Box::new(HostGroup {
            memory: Some(memory),
            start: request.page_offset,
            len: request.bytes,
            spare,
            pool: self.pool.clone(),
        }))
    }
}

/// Memory of its own, and the bytes of [`SPARE_BYTES`] that it has.
fn allocate(len: usize) -> io::Result<(Anonymous, usize)> {
    let spare = Anonymous::tail_bytes(len);
    let take = |left: usize| left.checked_sub(spare);
    let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
    if spare == 0 || SPARE_BYTES.fetch_update(set, fetch, take).is_err() {
        return Ok((Anonymous::new(len)?, 0));
    }
    let memory = Anonymous::in_huge_pages(len);
    if memory.is_err() {
        SPARE_BYTES.fetch_add(spare, Ordering::Relaxed);
    }
    Ok((memory?, spare))
}

#[derive(Debug)]
struct HostGroup {
    /// Present until the group is dropped; from a pool, it may be longer than the group.
    memory: Option<Anonymous>,
    start: usize,
    len: usize,
    /// What it has of [`SPARE_BYTES`].
    spare: usize,
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
        SPARE_BYTES.fetch_add(self.spare, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorlift_memory::HUGE_PAGE_BYTES;

    /// The only test that holds spare bytes, since all of the process share them.
    #[test]
    fn groups_together_take_little_more_than_they_are_asked_for() {
        let bytes = HUGE_PAGE_BYTES / 2;
        let request = GroupRequest::new(bytes);
        let before = SPARE_BYTES.load(Ordering::Relaxed);
        let groups: Vec<_> = (0..100)
            .map(|_| HostDevice::new().allocate(&request).unwrap())
            .collect();
        assert!(groups.iter().all(|group| group.len() == bytes));
        assert_eq!(SPARE_BYTES.load(Ordering::Relaxed), before % bytes);
        drop(groups);
        assert_eq!(SPARE_BYTES.load(Ordering::Relaxed), before);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pool_counts_for_the_next_load() {
        let free = os::available_memory().unwrap();
        let pool = HostPool::new(usize::MAX);
        let device = HostDevice::new().with_pool(pool.clone());
        // Nothing is spent: no page of it is touched.
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
