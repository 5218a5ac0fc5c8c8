//! Stand-in for io_uring where it is not available.

use std::fs::File;
use std::io;

/// Never made.
#[derive(Debug)]
pub(crate) enum Rings {}

impl Rings {
    /// Always refuses.
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "built without io_uring",
        ))
    }

    pub(crate) fn read_at(&self, _: &File, _: u64, _: &mut [u8]) -> io::Result<io::Result<usize>> {
        match *self {}
    }
}
