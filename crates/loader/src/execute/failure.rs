//! Reasons for which a chunk fails, and the error that the caller gets.

use std::io;

use tensorlift_device::DeviceError;
use tensorlift_storage::os;
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Extent};

/// Why a chunk failed.
pub(super) enum Failure {
    Read(io::Error),
    Device(DeviceError),
    /// A decoded record is not as long as the archive declares.
    Decode {
        expected: u64,
        found: u64,
    },
    /// Another chunk stopped the load.
    Stopped,
    /// There is no memory in addition to that of the tensors.
    Memory {
        needed: u64,
    },
}

impl Failure {
    /// The error, without the place where it happened.
    pub(super) fn into_error(self) -> Error {
        match self {
            Failure::Device(error) => Error::from(error),
            Failure::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::new(ErrorKind::Storage, error)
                    .with_remedy("the file was cut short while it was loaded: fetch it again")
            }
            Failure::Read(error) if os::is_out_of_files(&error) => {
                Error::new(ErrorKind::Storage, error)
                    .with_remedy("allow more open files (ulimit -n), or fewer shards open at once")
            }
            Failure::Read(error) => Error::new(ErrorKind::Storage, error)
                .with_remedy("check the disk or the mount, then load again"),
            Failure::Decode { expected, found } => Error::new(
                ErrorKind::Malformed,
                format!("expected {expected} bytes once inflated, found {found}"),
            )
            .with_remedy("fetch the file again"),
            Failure::Stopped => Error::new(ErrorKind::Cancelled, "the load has failed elsewhere"),
            Failure::Memory { needed } => Error::new(
                ErrorKind::LimitExceeded,
                format!("the system refuses {needed} bytes of memory to read into"),
            )
            .with_remedy("free memory, raise its limit (ulimit -v), or use smaller chunks"),
        }
    }
}

/// Names the first tensor that has bytes of an extent.
pub(super) fn with_place(error: Error, catalog: &Catalog, extent: Extent) -> Error {
    let touches = |entry: &&Entry| {
        let other = entry.extent();
        other.shard == extent.shard && other.offset < extent.end() && extent.offset < other.end()
    };
    let error = error.with_extent(extent);
    match catalog.entries().iter().find(touches) {
        Some(entry) => error.with_tensor(entry.name()),
        None => error,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Read(error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Failure::Device(error)
    }
}
