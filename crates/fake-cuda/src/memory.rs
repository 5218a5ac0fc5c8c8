//! Device memory on the host, and which host memory is pinned.

use std::collections::BTreeMap;

use crate::state::{ALREADY_REGISTERED, Code, INVALID_VALUE, NOT_REGISTERED, OUT_OF_MEMORY};

/// Where made-up device addresses begin: nothing of the host lies there.
const FIRST_ADDRESS: u64 = 0x5_0000_0000_0000;
/// The driver aligns allocations to this.
const ALIGNMENT: u64 = 256;
/// What fresh memory holds.
const GARBAGE: u8 = 0xa5;

pub(crate) struct Memory {
    allocations: BTreeMap<u64, Allocation>,
    pinned: BTreeMap<usize, Pinned>,
    next_address: u64,
    pub(crate) pageable_copies: u64,
    pub(crate) peak_bytes: u64,
}

pub(crate) struct Allocation {
    device: usize,
    bytes: Vec<u8>,
    /// The stream that is still to come to the allocation, by its thread's number.
    awaited: Option<u64>,
}

struct Pinned {
    len: usize,
    /// The memory itself, where the driver allocated it.
    owned: Option<Box<[u8]>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            allocations: BTreeMap::new(),
            pinned: BTreeMap::new(),
            next_address: FIRST_ADDRESS,
            pageable_copies: 0,
            peak_bytes: 0,
        }
    }
}

/// # Device memory
impl Memory {
    pub(crate) fn used(&self, device: usize) -> u64 {
        let own = self.allocations.values().filter(|a| a.device == device);
        own.map(|allocation| allocation.bytes.len() as u64).sum()
    }

    pub(crate) fn live(&self) -> (usize, u64) {
        let bytes = self.allocations.values().map(|a| a.bytes.len() as u64);
        (self.allocations.len(), bytes.sum())
    }

    pub(crate) fn allocate(
        &mut self,
        device: usize,
        len: usize,
        total: u64,
        awaited: Option<u64>,
    ) -> Result<u64, Code> {
        if len == 0 {
            return Err(INVALID_VALUE);
        }
        let used = self.used(device);
        if used.checked_add(len as u64).is_none_or(|sum| sum > total) {
            return Err(OUT_OF_MEMORY);
        }
        let address = self.next_address;
        // A gap after each allocation, so that writing past one never hits the next.
        self.next_address += (len as u64).next_multiple_of(ALIGNMENT) + ALIGNMENT;
        let bytes = vec![GARBAGE; len];
        self.allocations.insert(
            address,
            Allocation {
                device,
                bytes,
                awaited,
            },
        );
        self.peak_bytes = self.peak_bytes.max(self.live().1);
        Ok(address)
    }

    pub(crate) fn ready(&mut self, address: u64) {
        if let Some(allocation) = self.allocations.get_mut(&address) {
            allocation.awaited = None;
        }
    }

    pub(crate) fn is_base(&self, address: u64) -> bool {
        self.allocations.contains_key(&address)
    }

    pub(crate) fn free(&mut self, address: u64) -> Result<(), Code> {
        self.allocations
            .remove(&address)
            .map(drop)
            .ok_or(INVALID_VALUE)
    }

    /// The bytes at a device address, if all of them are live and, for a stream, allocated yet.
    pub(crate) fn bytes(
        &mut self,
        address: u64,
        len: usize,
        stream: Option<u64>,
    ) -> Option<&mut [u8]> {
        let (&base, allocation) = self.allocations.range_mut(..=address).next_back()?;
        let foreign = |awaited: u64| stream.is_some_and(|stream| stream != awaited);
        if allocation.awaited.is_some_and(foreign) {
            return None;
        }
        let start = usize::try_from(address - base).ok()?;
        allocation.bytes.get_mut(start..start.checked_add(len)?)
    }
}

/// # Pinned host memory
impl Memory {
    pub(crate) fn pinned_live(&self) -> (usize, u64) {
        let bytes = self.pinned.values().map(|pinned| pinned.len as u64);
        (self.pinned.len(), bytes.sum())
    }

    pub(crate) fn host_alloc(&mut self, len: usize) -> usize {
        // Pages of its own, as the driver's are.
        const PAGE: usize = 4096;
        let mut owned = vec![GARBAGE; len + PAGE].into_boxed_slice();
        let start = owned.as_mut_ptr().addr().next_multiple_of(PAGE);
        let owned = Some(owned);
        self.pinned.insert(start, Pinned { len, owned });
        start
    }

    pub(crate) fn host_free(&mut self, start: usize) -> Result<(), Code> {
        match self.pinned.get(&start) {
            Some(pinned) if pinned.owned.is_some() => {
                self.pinned.remove(&start);
                Ok(())
            }
            _ => Err(INVALID_VALUE),
        }
    }

    pub(crate) fn register(&mut self, start: usize, len: usize) -> Result<(), Code> {
        if len == 0 || start == 0 {
            return Err(INVALID_VALUE);
        }
        if self.overlaps(start, len) {
            return Err(ALREADY_REGISTERED);
        }
        self.pinned.insert(start, Pinned { len, owned: None });
        Ok(())
    }

    pub(crate) fn unregister(&mut self, start: usize) -> Result<(), Code> {
        match self.pinned.get(&start) {
            Some(pinned) if pinned.owned.is_none() => {
                self.pinned.remove(&start);
                Ok(())
            }
            _ => Err(NOT_REGISTERED),
        }
    }

    pub(crate) fn is_pinned(&self, start: usize, len: usize) -> bool {
        let below = self.pinned.range(..=start).next_back();
        below.is_some_and(|(&base, pinned)| start - base + len <= pinned.len)
    }

    fn overlaps(&self, start: usize, len: usize) -> bool {
        let below = self.pinned.range(..start + len).next_back();
        below.is_some_and(|(&base, pinned)| base + pinned.len > start)
    }
}
