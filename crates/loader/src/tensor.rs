use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytemuck::checked;
use tensorlift_device::{Destination, Device, Group, GroupRequest, HostDevice};
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Error, ErrorKind};

use crate::element::Element;
use crate::plan::{Place, Selection};

/// From this size on, gathering a strided tensor is spread over threads.
const PARALLEL_BYTES: usize = 1 << 20;

/// A tensor in memory: a view of a shared group, cheap to clone.
///
/// The group lives as long as any of its tensors.
#[derive(Clone)]
pub struct Tensor {
    catalog: Arc<Catalog>,
    entry: u32,
    /// Whether the elements are in row-major order, whatever the strides of the entry.
    row_major: bool,
    dtype: Dtype,
    group: Arc<dyn Group>,
    offset: usize,
}

/// # Description
impl Tensor {
    pub(crate) fn new(catalog: Arc<Catalog>, place: &Place, group: Arc<dyn Group>) -> Self {
        Self {
            catalog,
            // A catalog has at most `u32::MAX` entries, and offsets into memory fit.
            entry: place.entry as u32,
            row_major: place.row_major,
            dtype: place.dtype,
            group,
            offset: place.offset as usize,
        }
    }

    /// The position of its entry in the catalog.
    pub(crate) const fn position(&self) -> usize {
        self.entry as usize
    }

    /// The entry that describes it in its checkpoint.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.catalog.entries()[self.position()]
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.entry().name()
    }

    /// The type of the elements: the entry's, unless the load converted them.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of each dimension, in elements.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.entry().shape()
    }

    /// The distance between neighbours in each dimension, in elements, or `None` for row-major
    /// contiguous tensors.
    #[must_use]
    pub fn strides(&self) -> Option<&[usize]> {
        if self.row_major {
            None
        } else {
            self.entry().layout().strides()
        }
    }

    /// Whether the elements lie in row-major order without gaps.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.strides().is_none()
    }

    /// The group whose memory it looks at.
    #[must_use]
    pub fn group(&self) -> &Arc<dyn Group> {
        &self.group
    }

    /// Its first byte within the group.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes from its first to its last element.
    #[must_use]
    pub fn span_bytes(&self) -> usize {
        let layout = self.entry().layout();
        let bytes = match self.row_major {
            true => layout.contiguous_bytes(self.dtype),
            false => layout.span_bytes(self.dtype),
        };
        // It is in memory, so its size is known.
        bytes.unwrap_or(u64::MAX) as usize
    }
}

/// # Bytes
impl Tensor {
    /// The bytes from its first to its last element, little endian; for strided tensors, those
    /// between the elements too.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if the host cannot read the device's memory.
    pub fn as_bytes(&self) -> Result<&[u8], Error> {
        let Some(bytes) = self.group.as_host() else {
            let found = "expected host memory, found that of a device";
            return Err(self.misuse(found.into(), "load it to the host"));
        };
        Ok(&bytes[self.offset..][..self.span_bytes()])
    }

    /// The elements, in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if the dtype is another one, the tensor is strided or not on the
    /// host; [`ErrorKind::Malformed`] for a `bool` that is neither 0 nor 1.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], Error> {
        if T::DTYPE != self.dtype() {
            let found = format!("expected elements of {}, found {}", T::DTYPE, self.dtype());
            return Err(self.misuse(found, "read it as the dtype that it has"));
        }
        if let Some(strides) = self.strides() {
            let found = format!("expected row-major elements, found strides {strides:?}");
            return Err(self.misuse(found, "call to_contiguous first"));
        }
        checked::try_cast_slice(self.as_bytes()?).map_err(|error| match error {
            checked::CheckedCastError::InvalidBitPattern => {
                Error::new(ErrorKind::Malformed, "expected 0 or 1 in every element")
                    .with_tensor(self.name())
                    .with_extent(self.entry().extent())
                    .with_remedy("read its bytes instead")
            }
            checked::CheckedCastError::PodCastError(error) => {
                self.misuse(error.to_string(), "load it with a wider tensor alignment")
            }
        })
    }

    /// The tensor with its elements in row-major order: itself if they are already, otherwise a
    /// copy in host memory of its own.
    ///
    /// # Errors
    /// As [`as_bytes`](Self::as_bytes); [`ErrorKind::Unsupported`] for strided elements smaller
    /// than a byte; [`ErrorKind::Device`] if there is no memory for the copy:
    /// a view with stride 0 may be far larger than its bytes.
    pub fn to_contiguous(&self) -> Result<Tensor, Error> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let entry = self.entry();
        let Some(selection) = Selection::of(entry.layout(), self.dtype(), 0) else {
            let found = format!("strided elements of {} are parts of bytes", self.dtype());
            return Err(Error::new(ErrorKind::Unsupported, found)
                .with_tensor(self.name())
                .with_remedy("read its bytes and strides instead"));
        };
        let mut group = self.allocate_row_major()?;
        if let Destination::Host(to) = group.destination() {
            gather(self.as_bytes()?, &selection, to);
        }
        group.finish()?;
        Ok(Tensor {
            row_major: true,
            group: group.into(),
            offset: 0,
            ..self.clone()
        })
    }

    /// Host memory for a row-major copy.
    fn allocate_row_major(&self) -> Result<Box<dyn Group>, Error> {
        let bytes = self.entry().layout().contiguous_bytes(self.dtype);
        let bytes = bytes.unwrap_or(u64::MAX);
        let host = HostDevice::new();
        let request = GroupRequest::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        let group = host.reserve(bytes).and_then(|()| host.allocate(&request));
        group.map_err(|error| Error::from(error).with_tensor(self.name()))
    }

    fn misuse(&self, found: String, remedy: &'static str) -> Error {
        Error::new(ErrorKind::Misuse, found)
            .with_tensor(self.name())
            .with_remedy(remedy)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({:?}, {}{:?})",
            self.name(),
            self.dtype(),
            self.shape()
        )
    }
}

/// Copies the selected bytes, by several threads where they are many.
fn gather(from: &[u8], selection: &Selection, mut to: &mut [u8]) {
    let threads = match to.len() < PARALLEL_BYTES {
        true => 1,
        false => thread::available_parallelism().map_or(1, usize::from),
    };
    let part = |part: Selection| {
        let (taken, left) = std::mem::take(&mut to).split_at_mut(part.byte_len() as usize);
        to = left;
        (part, taken)
    };
    let parts: Vec<_> = selection.split(threads).into_iter().map(part).collect();
    let queue = Mutex::new(parts.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((part, to)) = next() {
            part.copy(from, 0, to);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // If the system refuses more threads, those that run do all of it.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}
