use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::fs::File;

use tensorlift_tensor_meta::Dtype;

use crate::DeviceError;

/// Memory that tensors can be loaded into.
pub trait Device: Send + Sync + fmt::Debug {
    /// The name, for reports: `"host"`, `"cuda:0"`.
    fn name(&self) -> String;

    /// What the loader must respect when it divides tensors into groups.
    fn rules(&self) -> GroupRules;

    /// Refuses a load that cannot fit, before a byte of it is read.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        let _ = bytes;
        Ok(())
    }

    /// Allocates memory for one group.
    ///
    /// # Errors
    /// If the device refuses.
    fn allocate(&self, request: &GroupRequest) -> Result<Box<dyn Group>, DeviceError>;
}

/// What a device demands of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupRules {
    /// The least alignment of a tensor within its group, in bytes, a power of two; its element
    /// size holds beside it. Groups themselves begin at least as well aligned.
    pub tensor_alignment: usize,
    /// Whether all tensors of a group must have one dtype.
    pub one_dtype: bool,
    /// The most bytes of one group, unless a single tensor is larger.
    pub max_bytes: u64,
}

impl Default for GroupRules {
    /// No demands: alignment 1, mixed dtypes, any size.
    fn default() -> Self {
        Self {
            tensor_alignment: 1,
            one_dtype: false,
            max_bytes: u64::MAX,
        }
    }
}

/// The memory that the loader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    /// How many bytes.
    pub bytes: usize,
    /// The one dtype of its tensors, where [`GroupRules::one_dtype`] asks for that.
    pub dtype: Option<Dtype>,
}

/// One allocation, shared by the tensors in it.
///
/// First it is filled through its [`Destination`], then finished, then only read.
/// Dropped before it is finished, it must wait for copies under way and free everything.
pub trait Group: Any + Send + Sync + fmt::Debug {
    /// The size in bytes.
    fn len(&self) -> usize;

    /// Whether it has no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The way in.
    fn destination(&mut self) -> Destination<'_>;

    /// Waits until every byte is where it belongs.
    ///
    /// # Errors
    /// If a copy failed.
    fn finish(&mut self) -> Result<(), DeviceError>;

    /// All bytes, if the host can read them in place.
    fn as_host(&self) -> Option<&[u8]>;
}

/// How bytes get into a group.
pub enum Destination<'a> {
    /// The host writes the group's memory itself: reads land in place.
    Host(&'a mut [u8]),
    /// Bytes go through staging buffers.
    Staged(&'a dyn Staging),
}

/// Staging buffers on the way into one group; shared by all reading threads.
pub trait Staging: Sync {
    /// Waits for a free buffer of at least `len` bytes.
    ///
    /// # Errors
    /// If the device failed, or no buffer is that large.
    fn take(&self, len: usize) -> Result<Box<dyn StagingBuffer + '_>, DeviceError>;

    /// The size of a buffer in bytes: the most that [`take`](Self::take) gives.
    fn buffer_bytes(&self) -> usize;

    /// Whether [`pull`](Self::pull) is worth asking.
    fn pulls(&self) -> bool {
        false
    }

    /// Lets the device read from a file itself, past host memory, where it can.
    ///
    /// A refusal is no failure: the same bytes then go through [`take`](Self::take), whatever
    /// part of them has arrived.
    ///
    /// # Errors
    /// If the device failed for good.
    fn pull(&self, pull: &Pull<'_>) -> Result<Pulled, DeviceError> {
        let _ = pull;
        Ok(Pulled::Refused("the device reads no files".into()))
    }
}

/// Bytes of a file that a device may fetch itself, at most as many as a staging buffer holds.
#[derive(Clone, Copy, Debug)]
pub struct Pull<'a> {
    /// The file.
    pub file: &'a File,
    /// The first byte in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
    /// What goes where; [`CopyRun::from`] counts from `offset`.
    pub runs: &'a [CopyRun],
}

/// What a device made of a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pulled {
    /// The bytes are in the group, or will be when it is finished.
    Done,
    /// The device does not fetch these bytes, for this reason, fit for a report.
    Refused(Cow<'static, str>),
}

/// A staging buffer in the hands of one reading thread; dropped, it is free again.
pub trait StagingBuffer {
    /// The memory to read into: host memory, aligned to 4,096 bytes where the device can choose.
    fn bytes(&mut self) -> &mut [u8];

    /// Starts copies into the group and gives the buffer back once they are done.
    /// It may return before they are.
    ///
    /// # Errors
    /// If the device refuses; errors of copies under way may surface in [`Group::finish`].
    fn copy(self: Box<Self>, runs: &[CopyRun]) -> Result<(), DeviceError>;
}

/// A run of bytes to copy from a staging buffer into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRun {
    /// The first byte in the buffer.
    pub from: usize,
    /// The first byte in the group.
    pub to: usize,
    /// How many bytes.
    pub len: usize,
}

impl fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Host(bytes) => write!(f, "Host({} bytes)", bytes.len()),
            Destination::Staged(_) => f.write_str("Staged"),
        }
    }
}
