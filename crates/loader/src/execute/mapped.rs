use std::sync::Arc;

use tensorlift_device::{Destination, DeviceError, Group};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Error, ErrorKind};

use crate::shard::Shard;

/// A shard's mapping, as a group that needs no filling.
#[derive(Debug)]
struct MappedGroup {
    storage: Arc<dyn Storage>,
}

/// The mapping of a shard.
pub(super) fn group(shard: &Shard) -> Result<Box<dyn Group>, Error> {
    if shard.storage().as_slice().is_none() {
        let found = format!(
            "it is read by {:?}, which maps nothing",
            shard.storage().reader()
        );
        return Err(Error::new(ErrorKind::Misuse, found)
            .with_path(shard.path())
            .with_remedy("open it as a mapping, or load it by copying"));
    }
    Ok(Box::new(MappedGroup {
        storage: Arc::clone(shard.storage()),
    }))
}

impl Group for MappedGroup {
    fn len(&self) -> usize {
        self.as_host().map_or(0, <[u8]>::len)
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Host(&mut [])
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        self.storage.as_slice()
    }
}
