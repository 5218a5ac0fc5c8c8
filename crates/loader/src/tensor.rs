use std::fmt;
use std::sync::Arc;

use bytemuck::checked;
use rayon::prelude::*;
use tensorlift_device::{Device, Group, HostDevice};
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Error, ErrorKind, Layout};

use crate::Element;

/// A tensor in memory: a view of a shared group, cheap to clone.
///
/// The group lives as long as any of its tensors.
#[derive(Clone)]
pub struct Tensor {
    catalog: Arc<Catalog>,
    entry: u32,
    /// Whether the bytes lie in row-major order, whatever the entry says.
    gathered: bool,
    group: Arc<dyn Group>,
    offset: usize,
}

/// # What it is
impl Tensor {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        entry: usize,
        group: Arc<dyn Group>,
        offset: usize,
    ) -> Self {
        // A catalog has at most `u32::MAX` entries.
        Self {
            catalog,
            entry: entry as u32,
            gathered: false,
            group,
            offset,
        }
    }

    /// The entry that describes it in its checkpoint.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.catalog.entries()[self.entry as usize]
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.entry().name()
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.entry().dtype()
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
        if self.gathered {
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
        let entry = self.entry();
        let bytes = if self.gathered {
            entry.bytes()
        } else {
            entry.span_bytes()
        };
        // It is in memory, so it has a size.
        bytes as usize
    }
}

/// # Its bytes
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
            return Err(self.misuse(found, "ask for the dtype that it has"));
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
        if self.dtype().bytes().is_none() {
            let found = format!("strided elements of {} are parts of bytes", self.dtype());
            return Err(Error::new(ErrorKind::Unsupported, found)
                .with_tensor(self.name())
                .with_remedy("read its bytes and strides instead"));
        }
        let bytes = self.entry().bytes();
        let named = |error: Error| error.with_tensor(self.name());
        let host = HostDevice::new();
        host.reserve(bytes).map_err(|error| named(error.into()))?;
        let request = tensorlift_device::GroupRequest {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            dtype: None,
        };
        let mut group = host
            .allocate(&request)
            .map_err(|error| named(error.into()))?;
        if let tensorlift_device::Destination::Host(to) = group.destination() {
            gather(self.as_bytes()?, self.entry().layout(), self.dtype(), to);
        }
        group.finish()?;
        Ok(Tensor {
            gathered: true,
            group: group.into(),
            offset: 0,
            ..self.clone()
        })
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

/// Copies strided elements into row-major order.
fn gather(from: &[u8], layout: &Layout, dtype: Dtype, to: &mut [u8]) {
    let (Some(strides), Some(element)) = (layout.strides(), dtype.bytes()) else {
        return;
    };
    let shape = layout.shape();
    // The last dimension is the inner loop; the others count rows.
    let (Some(&width), Some(&step)) = (shape.last(), strides.last()) else {
        return;
    };
    let row_bytes = width * element;
    to.par_chunks_mut(row_bytes.max(1))
        .enumerate()
        .for_each(|(row, to)| {
            let start = row_start(row, &shape[..shape.len() - 1], strides) * element;
            if step == 1 {
                to.copy_from_slice(&from[start..][..row_bytes]);
                return;
            }
            for (index, to) in to.chunks_exact_mut(element).enumerate() {
                to.copy_from_slice(&from[start + index * step * element..][..element]);
            }
        });
}

/// The position of a row's first element, by the row's number in row-major order.
fn row_start(mut row: usize, outer: &[usize], strides: &[usize]) -> usize {
    let mut position = 0;
    for (&size, &stride) in outer.iter().zip(strides).rev() {
        position += row % size * stride;
        row /= size;
    }
    position
}
