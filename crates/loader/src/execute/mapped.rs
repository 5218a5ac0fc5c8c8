//! Groups that are views of a mapped shard.

use std::sync::Arc;

use tensorlift_device::{Destination, DeviceError, Group};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::open_shard::OpenShard;

/// A shard's mapping, as a group that needs no filling.
#[derive(Debug)]
struct MappedGroup {
    storage: Arc<dyn Storage>,
}

/// The mapping of a shard.
pub(super) fn group(shard: &OpenShard<'_>) -> Result<Box<dyn Group>, Error> {
    let path = shard.shard().path();
    let storage = shard.storage(|_| {}).map_err(|error| {
        Error::new(ErrorKind::Storage, error)
            .with_path(path)
            .with_remedy("use the mode copy")
    })?;
    if storage.as_slice().is_none() {
        let found = format!("it is read by {}, which is no mapping", storage.reader());
        return Err(Error::new(ErrorKind::Misuse, found)
            .with_path(path)
            .with_remedy("use the mode copy"));
    }
    Ok(Box::new(MappedGroup { storage }))
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
