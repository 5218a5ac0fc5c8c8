use crate::{
    CopyRun, Destination, Device, DeviceError, Group, GroupRequest, GroupRules, Staging,
    StagingBuffer,
};

/// The size of the buffers that are read into and thrown away.
const BUFFER_BYTES: usize = 8 << 20;

/// A device that keeps nothing: every byte is read, then dropped.
///
/// It measures storage alone, and keeps the seam honest without hardware.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullDevice;

impl Device for NullDevice {
    fn name(&self) -> String {
        "null".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules::default()
    }

    fn allocate(&self, request: &GroupRequest) -> Result<Box<dyn Group>, DeviceError> {
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
    fn take(&self, len: usize) -> Result<Box<dyn StagingBuffer + '_>, DeviceError> {
        Ok(Box::new(Scratch(vec![0; len])))
    }

    fn buffer_bytes(&self) -> usize {
        BUFFER_BYTES
    }
}

impl StagingBuffer for Scratch {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn copy(self: Box<Self>, _runs: &[CopyRun]) -> Result<(), DeviceError> {
        Ok(())
    }
}
