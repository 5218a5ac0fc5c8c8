//! DLPack's structures, and the one function in them.

use std::any::Any;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// `DLDevice`: the location of a tensor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DlDevice {
    /// The kind, a `DLDeviceType`.
    pub kind: i32,
    /// The number among its kind.
    pub id: i32,
}

/// `DLDataType`: the type of an element.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DlDataType {
    /// The kind, a `DLDataTypeCode`.
    pub code: u8,
    /// The width in bits.
    pub bits: u8,
    /// Values in an element; 1 for scalars.
    pub lanes: u16,
}

/// `DLTensor`.
#[repr(C)]
#[derive(Debug)]
pub struct DlTensor {
    /// The first element.
    pub data: *mut c_void,
    /// Where it lies.
    pub device: DlDevice,
    /// The number of dimensions.
    pub ndim: i32,
    /// The type of an element.
    pub dtype: DlDataType,
    /// `ndim` sizes, in elements.
    pub shape: *mut i64,
    /// `ndim` distances, in elements.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element; always 0 here, since not every consumer adds it.
    pub byte_offset: u64,
}

/// `DLPackVersion`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DlVersion {
    /// Another one cannot be read.
    pub major: u32,
    /// A higher one has more codes.
    pub minor: u32,
}

/// `DLManagedTensor`, of DLPack before 1.0.
#[repr(C)]
#[derive(Debug)]
pub struct DlManagedTensor {
    /// The tensor.
    pub tensor: DlTensor,
    /// Ours.
    pub owner: *mut c_void,
    /// Releases the tensor; the consumer calls this once.
    pub deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

/// `DLManagedTensorVersioned`, of DLPack 1.0 and later.
#[repr(C)]
#[derive(Debug)]
pub struct DlManagedTensorVersioned {
    /// The version of the structure.
    pub version: DlVersion,
    /// Ours.
    pub owner: *mut c_void,
    /// Releases the tensor; the consumer calls this once.
    pub deleter: Option<unsafe extern "C" fn(*mut DlManagedTensorVersioned)>,
    /// [`READ_ONLY`] or 0.
    pub flags: u64,
    /// The tensor.
    pub tensor: DlTensor,
}

/// The flag of tensors that must not be written to.
pub const READ_ONLY: u64 = 1;

/// The version that is written: the first with codes for 8-bit floats.
pub(crate) const VERSION: DlVersion = DlVersion { major: 1, minor: 1 };

/// Everything that a managed tensor points to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) address: u64,
    pub(crate) device: DlDevice,
    pub(crate) dtype: DlDataType,
    /// The shape, and behind it the strides.
    pub(crate) sizes: Box<[i64]>,
    pub(crate) read_only: bool,
    #[expect(dead_code, reason = "kept, and dropped with the rest")]
    pub(crate) owner: Arc<dyn Any + Send + Sync>,
}

impl Parts {
    /// The tensor over a box whose contents stay where they are when the box moves.
    fn tensor(&mut self) -> DlTensor {
        let (shape, strides) = self.sizes.split_at_mut(self.sizes.len() / 2);
        DlTensor {
            data: self.address as usize as *mut c_void,
            device: self.device,
            // Checked where parts are made.
            ndim: shape.len() as i32,
            dtype: self.dtype,
            shape: shape.as_mut_ptr(),
            strides: strides.as_mut_ptr(),
            byte_offset: 0,
        }
    }
}

/// A structure and what it points to, in one allocation: its address is the structure's.
#[repr(C)]
struct Whole<M> {
    managed: M,
    /// Kept, and dropped with the structure.
    parts: Parts,
}

/// A structure that can be handed over, and releases what it owns.
pub(crate) trait Managed: Sized {
    /// The structure over parts that it does not keep alive.
    fn over(parts: &mut Parts) -> Self;
}

impl Managed for DlManagedTensor {
    fn over(parts: &mut Parts) -> Self {
        Self {
            tensor: parts.tensor(),
            owner: std::ptr::null_mut(),
            deleter: Some(delete::<Self>),
        }
    }
}

impl Managed for DlManagedTensorVersioned {
    fn over(parts: &mut Parts) -> Self {
        Self {
            version: VERSION,
            flags: if parts.read_only { READ_ONLY } else { 0 },
            tensor: parts.tensor(),
            owner: std::ptr::null_mut(),
            deleter: Some(delete::<Self>),
        }
    }
}

/// A structure on the heap for a consumer; its deleter frees it.
pub(crate) fn leak<M: Managed>(mut parts: Parts) -> NonNull<M> {
    let managed = M::over(&mut parts);
    let whole = Box::leak(Box::new(Whole { managed, parts }));
    // The parts have moved, so the pointers into them are taken again where they stay.
    whole.managed = M::over(&mut whole.parts);
    NonNull::from(whole).cast()
}

/// Frees what [`leak`] made.
unsafe extern "C" fn delete<M: Managed>(managed: *mut M) {
    // SAFETY: `leak` made it as the beginning of a boxed `Whole`, and the consumer calls this once.
    drop(unsafe { Box::from_raw(managed.cast::<Whole<M>>()) });
}

/// An exported tensor that has no consumer yet; dropping it releases it.
#[derive(Debug)]
pub struct Exported<M: Sealed> {
    managed: NonNull<M>,
}

/// The two structures.
#[allow(private_bounds)]
pub trait Sealed: Managed {}
impl Sealed for DlManagedTensor {}
impl Sealed for DlManagedTensorVersioned {}

// SAFETY: what it owns is `Send` and `Sync`: boxes of integers and an `Arc`.
unsafe impl<M: Sealed> Send for Exported<M> {}
// SAFETY: as above.
unsafe impl<M: Sealed> Sync for Exported<M> {}

impl<M: Sealed> Exported<M> {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            managed: leak(parts),
        }
    }

    /// The structure, to look at.
    #[must_use]
    pub fn managed(&self) -> &M {
        // SAFETY: alive until it is given back or taken, which both need `self`.
        unsafe { self.managed.as_ref() }
    }

    /// Hands it over; the consumer must call its deleter once.
    #[must_use = "the deleter must be called"]
    pub fn into_raw(self) -> *mut M {
        std::mem::ManuallyDrop::new(self).managed.as_ptr()
    }
}

impl<M: Sealed> Drop for Exported<M> {
    fn drop(&mut self) {
        // SAFETY: it comes from `leak`, and nobody took it.
        unsafe { delete(self.managed.as_ptr()) }
    }
}
