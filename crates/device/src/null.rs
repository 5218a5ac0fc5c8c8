use crate::{
    CopyRun, Destination, Device, DeviceError, Group, GroupRequest, GroupRules, Lane, Staging,
};

/// The size of the slots that are read into and thrown away.
const SLOT_BYTES: usize = 8 << 20;

/// A device that discards every byte that is read.
///
/// It measures only storage, and tests the staging path without hardware.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullDevice;

impl Device for NullDevice {
    fn name(&self) -> String {
        "null".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules::default()
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        Ok(Box::new(NullGroup { len: request.bytes }))
    }
}

#[derive(Debug)]
struct NullGroup {
    len: usize,
}

struct Scratch(Vec<u8>);

impl Group for NullGroup {
    fn len(&self) -> usize {
        self.len
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Staged(self)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        None
    }
}

impl Staging for NullGroup {
    fn lane(&self) -> Result<Box<dyn Lane + '_>, DeviceError> {
        Ok(Box::new(Scratch(Vec::new())))
    }

    fn lanes(&self) -> usize {
        usize::MAX
    }

    fn slots(&self) -> usize {
        1
    }

    fn slot_bytes(&self) -> usize {
        SLOT_BYTES
    }
}

impl Lane for Scratch {
    fn slot(&mut self, len: usize) -> Result<&mut [u8], DeviceError> {
        if len > self.0.len() {
            self.0.resize(len, 0);
        }
        Ok(&mut self.0[..len])
    }

    fn copy(&mut self, _runs: &[CopyRun]) -> Result<(), DeviceError> {
        Ok(())
    }
}
