use tensorlift_storage::os::{self, Anonymous};

use crate::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules};

/// Host memory: 2 MiB aligned, huge pages advised.
#[derive(Clone, Debug)]
pub struct HostDevice {
    tensor_alignment: usize,
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

impl Device for HostDevice {
    fn name(&self) -> String {
        "host".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules {
            tensor_alignment: self.tensor_alignment,
            ..GroupRules::default()
        }
    }

    /// Refuses more than the system says it can give: it would hand the memory out all the same,
    /// and end the process half-way.
    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        match os::available_memory() {
            Some(free) if bytes > free => Err(DeviceError::OutOfMemory {
                device: self.name(),
                needed: bytes,
                free,
            }),
            _ => Ok(()),
        }
    }

    fn allocate(&self, request: &GroupRequest) -> Result<Box<dyn Group>, DeviceError> {
        let memory = Anonymous::new(request.bytes).map_err(|source| DeviceError::Allocation {
            device: self.name(),
            needed: request.bytes as u64,
            source,
        })?;
        Ok(Box::new(HostGroup { memory }))
    }
}

#[derive(Debug)]
struct HostGroup {
    memory: Anonymous,
}

impl Group for HostGroup {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Host(&mut self.memory)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        Some(&self.memory)
    }
}
