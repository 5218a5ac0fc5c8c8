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
    pub(crate) shape: Box<[i64]>,
    pub(crate) strides: Box<[i64]>,
    pub(crate) read_only: bool,
    #[expect(dead_code, reason = "kept, and dropped with the rest")]
    pub(crate) owner: Arc<dyn Any + Send + Sync>,
}

impl Parts {
    /// The tensor over boxes whose contents stay where they are when the boxes move.
    fn tensor(&mut self) -> DlTensor {
        DlTensor {
            data: self.address as usize as *mut c_void,
            device: self.device,
            // Checked where parts are made.
            ndim: self.shape.len() as i32,
            dtype: self.dtype,
            shape: self.shape.as_mut_ptr(),
            strides: self.strides.as_mut_ptr(),
            byte_offset: 0,
        }
    }
}

/// A structure that can be handed over, and releases what it owns.
pub(crate) trait Managed: Sized {
    fn make(parts: Parts) -> Self;

    /// Calls the deleter.
    ///
    /// # Safety
    /// `managed` must come from [`leak`], and must not be used again.
    unsafe fn give_back(managed: NonNull<Self>);
}

impl Managed for DlManagedTensor {
    fn make(parts: Parts) -> Self {
        let mut parts = Box::new(parts);
        Self {
            tensor: parts.tensor(),
            owner: Box::into_raw(parts).cast(),
            deleter: Some(delete),
        }
    }

    unsafe fn give_back(managed: NonNull<Self>) {
        // SAFETY: guaranteed by the caller.
        unsafe { delete(managed.as_ptr()) }
    }
}

impl Managed for DlManagedTensorVersioned {
    fn make(parts: Parts) -> Self {
        let mut parts = Box::new(parts);
        Self {
            version: VERSION,
            flags: if parts.read_only { READ_ONLY } else { 0 },
            tensor: parts.tensor(),
            owner: Box::into_raw(parts).cast(),
            deleter: Some(delete_versioned),
        }
    }

    unsafe fn give_back(managed: NonNull<Self>) {
        // SAFETY: guaranteed by the caller.
        unsafe { delete_versioned(managed.as_ptr()) }
    }
}

/// A structure on the heap for a consumer; its deleter frees it.
pub(crate) fn leak<M: Managed>(parts: Parts) -> NonNull<M> {
    NonNull::from(Box::leak(Box::new(M::make(parts))))
}

unsafe extern "C" fn delete(managed: *mut DlManagedTensor) {
    // SAFETY: it was leaked as a box, and the consumer calls this once.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: the owner is the box of parts that `make` leaked.
    drop(unsafe { Box::from_raw(managed.owner.cast::<Parts>()) });
}

unsafe extern "C" fn delete_versioned(managed: *mut DlManagedTensorVersioned) {
    // SAFETY: as above.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(managed.owner.cast::<Parts>()) });
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
        unsafe { M::give_back(self.managed) }
    }
}
