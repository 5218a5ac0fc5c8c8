//! Systems without cuFile.

use std::sync::Arc;
use std::time::Duration;

use tensorlift_device::{Pull, Pulled};

use crate::Gds;
use crate::driver::{Context, DeviceMemory, Stream};

const REASON: &str = "GPUDirect Storage is there on Linux only";

#[derive(Debug)]
pub(crate) struct Files;

impl Files {
    pub(crate) fn new(_mode: Gds, _buffer_bytes: usize) -> Self {
        Self
    }

    pub(crate) fn describe(&self, _context: &Context) -> (Result<(), String>, Duration) {
        (Err(REASON.into()), Duration::ZERO)
    }

    pub(crate) fn pulls(&self, _context: &Context) -> bool {
        false
    }

    pub(crate) fn pull(
        &self,
        _memory: &Arc<DeviceMemory>,
        _stream: &Arc<Stream>,
        _pull: &Pull<'_>,
    ) -> Pulled {
        Pulled::Refused(REASON.into())
    }

    pub(crate) fn release(&self, _memory: &Arc<DeviceMemory>) {}
}
