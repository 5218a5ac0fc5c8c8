//! The memory of one record: shared by the tensors on it, freed with the last of them.

use std::sync::Arc;

use tensorlift::cuda::CudaBuffer;
use tensorlift::cuda::dlpack::{self, DlDevice};
use tensorlift_device::Group;

use crate::ffi::HostBlock;

/// Some bytes of a group.
#[derive(Debug)]
pub(crate) struct Span {
    block: Block,
    start: usize,
    len: usize,
}

/// What the bytes lie in.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// Memory of ours, which Python may write to.
    Host(Arc<HostBlock>),
    /// A mapping of the file, read-only.
    Mapped(Arc<dyn Group>),
    /// Memory of a GPU.
    Cuda(CudaBuffer),
}

impl Block {
    /// The memory of a loaded group.
    pub(crate) fn of(group: &Arc<dyn Group>) -> Self {
        if let Some(block) = HostBlock::of(&**group) {
            return Self::Host(block);
        }
        match CudaBuffer::of(&**group) {
            Some(buffer) => Self::Cuda(buffer),
            None => Self::Mapped(Arc::clone(group)),
        }
    }

    fn address(&self) -> *mut u8 {
        match self {
            Block::Host(block) => block.address(),
            Block::Mapped(group) => group
                .as_host()
                .map_or(std::ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut()),
            Block::Cuda(buffer) => buffer.address() as usize as *mut u8,
        }
    }
}

impl Span {
    pub(crate) fn new(block: Block, start: usize, len: usize) -> Self {
        if let Block::Host(block) = &block {
            block.hold(start, len);
        }
        Self { block, start, len }
    }

    /// Some of its bytes as a span of their own, over the same memory.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Self {
        Self::new(self.block.clone(), self.start + offset, len)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where its first byte lies in the group.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The address of its first byte, on its device.
    pub(crate) fn address(&self) -> *mut u8 {
        self.block.address().wrapping_add(self.start)
    }

    /// Whether writing to it would end the process.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.block, Block::Mapped(_))
    }

    /// Where it lies, in DLPack's terms.
    pub(crate) fn device(&self) -> DlDevice {
        match &self.block {
            Block::Cuda(buffer) => DlDevice {
                kind: dlpack::CUDA,
                id: i32::try_from(buffer.ordinal()).unwrap_or(i32::MAX),
            },
            _ => dlpack::HOST,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Block::Host(block) = &self.block {
            block.release(self.start, self.len);
        }
    }
}
