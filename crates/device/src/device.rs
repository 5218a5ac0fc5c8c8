use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::sync::Arc;

use tensorlift_tensor_meta::{Dtype, Entry};

use crate::DeviceError;

/// Memory that tensors can be loaded into.
pub trait Device: Send + Sync + fmt::Debug {
    /// The name, for reports: `"host"`, `"cuda:0"`.
    fn name(&self) -> String;

    /// The rules by which the loader divides tensors into groups.
    fn rules(&self) -> GroupRules;

    /// Rejects a load that cannot fit, before a byte of it is read.
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
    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError>;
}

/// A device's rules for groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupRules {
    /// The least alignment of a tensor within its group, in bytes, a power of two; the size of its
    /// element applies too. Groups themselves begin at least as well aligned.
    pub tensor_alignment: usize,
    /// Whether all tensors of a group must have one dtype.
    pub one_dtype: bool,
    /// The most bytes of one group, unless a single tensor is larger.
    pub max_bytes: u64,
    /// How many threads should read files that are in the page cache; by default, the loader
    /// decides.
    pub readers: Option<usize>,
    /// Whether every tensor has a group of exactly its bytes, from the first one on, with its
    /// elements in row-major order; [`GroupRequest::entry`] then says which tensor it is.
    pub exact: bool,
}

impl GroupRules {
    /// Sets [`readers`](Self::readers).
    #[must_use]
    pub const fn readers(mut self, readers: usize) -> Self {
        self.readers = Some(readers);
        self
    }

    /// Sets [`tensor_alignment`](Self::tensor_alignment).
    #[must_use]
    pub const fn tensor_alignment(mut self, bytes: usize) -> Self {
        self.tensor_alignment = bytes;
        self
    }

    /// Sets [`one_dtype`](Self::one_dtype).
    #[must_use]
    pub const fn one_dtype(mut self, one_dtype: bool) -> Self {
        self.one_dtype = one_dtype;
        self
    }

    /// Sets [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets [`exact`](Self::exact).
    #[must_use]
    pub const fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }
}

impl Default for GroupRules {
    /// No demands: alignment 1, mixed dtypes, any size, tensors side by side.
    fn default() -> Self {
        Self {
            tensor_alignment: 1,
            one_dtype: false,
            max_bytes: u64::MAX,
            readers: None,
            exact: false,
        }
    }
}

/// The memory that the loader asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GroupRequest<'a> {
    /// How many bytes.
    pub bytes: usize,
    /// The one dtype of its tensors, where [`GroupRules::one_dtype`] asks for that.
    pub dtype: Option<Dtype>,
    /// The one tensor that it holds, where [`GroupRules::exact`] asks for that.
    pub entry: Option<&'a Entry>,
    /// Where in a page of 4,096 bytes the memory should begin, so that reads past the page cache
    /// land in place; a hint, which costs nothing but speed to ignore.
    pub page_offset: usize,
}

impl<'a> GroupRequest<'a> {
    /// A request for memory of any dtype.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self {
            bytes,
            dtype: None,
            entry: None,
            page_offset: 0,
        }
    }

    /// Sets [`dtype`](Self#structfield.dtype).
    #[must_use]
    pub fn dtype(mut self, dtype: impl Into<Option<Dtype>>) -> Self {
        self.dtype = dtype.into();
        self
    }

    /// Sets [`entry`](Self#structfield.entry).
    #[must_use]
    pub fn entry(mut self, entry: impl Into<Option<&'a Entry>>) -> Self {
        self.entry = entry.into();
        self
    }

    /// Sets [`page_offset`](Self#structfield.page_offset).
    #[must_use]
    pub const fn page_offset(mut self, bytes: usize) -> Self {
        self.page_offset = bytes;
        self
    }
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

    /// How to fill it.
    fn destination(&mut self) -> Destination<'_>;

    /// Waits until every byte is where it belongs.
    ///
    /// # Errors
    /// If a copy failed.
    fn finish(&mut self) -> Result<(), DeviceError>;

    /// All bytes, if the host can read them in place.
    fn as_host(&self) -> Option<&[u8]>;
}

/// Takes a group out of its shared pointer, as the type that its device made.
///
/// ```
/// use std::sync::Arc;
/// use tensorlift_device::{Device, Group, GroupRequest, VecDevice, VecGroup, take_group};
/// use tensorlift_tensor_meta::Dtype;
///
/// let request = GroupRequest::new(8).dtype(Dtype::F32);
/// let group: Arc<dyn Group> = VecDevice::new().allocate(&request)?.into();
/// let Ok(VecGroup::F32(values)) = take_group(group) else { panic!("F32 was asked for") };
/// assert_eq!(values, [0.0, 0.0]);
/// # Ok::<(), tensorlift_device::DeviceError>(())
/// ```
///
/// # Errors
/// The group itself, if it is of another type or has other owners.
pub fn take_group<G: Group>(group: Arc<dyn Group>) -> Result<G, Arc<dyn Group>> {
    let any: Arc<dyn Any + Send + Sync> = Arc::<dyn Group>::clone(&group);
    let Ok(typed) = any.downcast::<G>() else {
        return Err(group);
    };
    drop(group);
    Arc::try_unwrap(typed).map_err(|shared| shared as Arc<dyn Group>)
}

/// How bytes get into a group; whoever fills groups handles both ways.
pub enum Destination<'a> {
    /// The host writes the group's memory itself: reads land in place.
    Host(&'a mut [u8]),
    /// Bytes go through staging slots.
    Staged(&'a dyn Staging),
}

/// Access to a group that the host cannot write: lanes of staging slots.
pub trait Staging: Sync {
    /// Lends a lane to the calling thread; waits while all are in use.
    ///
    /// A thread holds one lane at a time, so no two threads can wait for each other.
    ///
    /// # Errors
    /// If the device failed.
    fn lane(&self) -> Result<Box<dyn Lane + '_>, DeviceError>;

    /// How many lanes there are: more readers than that would wait for each other.
    fn lanes(&self) -> usize;

    /// How many slots a lane has.
    fn slots(&self) -> usize;

    /// The size of a slot in bytes: the most that [`Lane::slot`] gives.
    fn slot_bytes(&self) -> usize;

    /// Whether [`pull`](Self::pull) is worth asking.
    fn pulls(&self) -> bool {
        false
    }

    /// Lets the device read from a file itself, past host memory, where it can.
    ///
    /// A refusal is no failure: the same bytes then go through a [`lane`](Self::lane), whatever
    /// part of them has arrived.
    ///
    /// # Errors
    /// If the device failed for good.
    fn pull(&self, pull: &Pull<'_>) -> Result<Pulled, DeviceError> {
        let _ = pull;
        Ok(Pulled::Refused("the device reads no files".into()))
    }
}

/// Bytes of a file that a device may fetch itself, at most as many as a staging slot holds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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

impl<'a> Pull<'a> {
    /// The `len` bytes of a file from `offset` on, and what goes where.
    #[must_use]
    pub const fn new(file: &'a File, offset: u64, len: usize, runs: &'a [CopyRun]) -> Self {
        Self {
            file,
            offset,
            len,
            runs,
        }
    }
}

/// The outcome of a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pulled {
    /// The bytes are in the group, or will be when it is finished.
    Done,
    /// The device does not fetch these bytes, for this reason, fit for a report.
    Refused(Cow<'static, str>),
}

/// Staging slots of one reading thread, which it fills in turn while the device copies from the
/// others.
///
/// For each chunk: [`slot`](Self::slot), fill it, [`copy`](Self::copy). What changes bytes on the
/// way to the device, as a conversion of the dtype, does so in the slot, between the two.
/// When dropped, the lane waits for its copies and is released.
pub trait Lane {
    /// The next slot, once its last copies are done: `len` bytes of host memory, aligned to 4,096
    /// bytes where the device can choose, with arbitrary content.
    ///
    /// Until [`copy`](Self::copy) is called it is the same slot again.
    ///
    /// # Errors
    /// If the device failed, or no slot is that large.
    fn slot(&mut self, len: usize) -> Result<&mut [u8], DeviceError>;

    /// Starts copies from the slot into the group; it may return before they are done.
    ///
    /// # Errors
    /// If the device refuses; errors of copies under way surface in [`Group::finish`].
    fn copy(&mut self, runs: &[CopyRun]) -> Result<(), DeviceError>;

    /// Whether another thread waits for a lane: drop this one after the chunk, then ask again.
    fn is_wanted(&self) -> bool {
        false
    }
}

/// A run of bytes to copy from a staging slot into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRun {
    /// The first byte in the slot.
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
