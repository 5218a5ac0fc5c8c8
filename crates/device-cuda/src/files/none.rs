//! Systems without cuFile.

use std::sync::Arc;

use tensorlift_device::{Pull, Pulled};

use crate::driver::{Allocation, Stream};
use crate::{Gds, GdsReport};

const REASON: &str = "GPUDirect Storage exists on Linux only";

#[derive(Debug)]
pub(crate) struct Files;

impl Files {
    pub(crate) fn new(_mode: Gds, _buffer_bytes: usize) -> Self {
        Self
    }

    pub(crate) fn report(&self) -> GdsReport {
        GdsReport::NotAsked
    }

    pub(crate) fn pulls(&self) -> bool {
        false
    }

    pub(crate) fn pull(
        &self,
        _memory: &Arc<Allocation>,
        _stream: &Arc<Stream>,
        _pull: &Pull<'_>,
    ) -> Pulled {
        Pulled::Refused(REASON.into())
    }

    pub(crate) fn release(&self, _memory: &Arc<Allocation>) {}
}
