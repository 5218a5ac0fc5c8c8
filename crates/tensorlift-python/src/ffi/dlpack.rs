//! Hands memory to torch by DLPack.

use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use tensorlift::cuda::dlpack::{
    DlManagedTensor, DlManagedTensorVersioned, DlVersion, DlpackError, Exported, Tensor,
};

/// The name of a capsule that nobody has taken yet.
const FRESH: &CStr = c"dltensor";
/// The name of the capsule with [`ExchangeApi`] in it.
const EXCHANGE: &CStr = c"dlpack_exchange_api";

/// The beginning of `DLPackExchangeAPI`, as DLPack 1.3 lays it out.
#[repr(C)]
pub(crate) struct ExchangeApi {
    version: DlVersion,
    previous: *const c_void,
    allocate: *const c_void,
    from_object: *const c_void,
    to_object:
        Option<unsafe extern "C" fn(*mut DlManagedTensorVersioned, *mut *mut c_void) -> c_int>,
}

/// Makes tensors of a framework out of memory.
pub(crate) enum Importer {
    /// By a function of C's.
    Direct {
        api: *const ExchangeApi,
        /// Keeps `api` alive.
        _capsule: Py<PyAny>,
    },
    /// By the framework's `from_dlpack`.
    Capsule(Py<PyAny>),
}

impl Importer {
    /// What imports into torch.
    pub(crate) fn torch(py: Python<'_>) -> PyResult<Self> {
        let torch = py.import("torch")?;
        let capsule = torch
            .getattr("Tensor")?
            .getattr("__dlpack_c_exchange_api__");
        if let Ok(capsule) = capsule
            && let Ok(capsule) = capsule.cast_into::<PyCapsule>()
            && let Ok(api) = capsule.pointer_checked(Some(EXCHANGE))
        {
            let api = api.cast::<ExchangeApi>().as_ptr().cast_const();
            // SAFETY: the capsule of this name holds such a structure for as long as it lives;
            // the version comes first in all versions of it.
            let usable = unsafe { (*api).version.major == 1 && (*api).to_object.is_some() };
            if usable {
                return Ok(Self::Direct {
                    api,
                    _capsule: capsule.into_any().unbind(),
                });
            }
        }
        let from_dlpack = torch.getattr("utils")?.getattr("dlpack")?;
        Ok(Self::Capsule(from_dlpack.getattr("from_dlpack")?.unbind()))
    }

    /// A tensor of the framework over this memory.
    pub(crate) fn import<'py>(
        &self,
        py: Python<'py>,
        tensor: Tensor<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Direct { api, .. } => {
                let exported: Exported<DlManagedTensorVersioned> =
                    tensor.export().map_err(no_tensor)?;
                // SAFETY: the capsule keeps the structure alive, and the function was there.
                let to_object = unsafe { (**api).to_object };
                let to_object = to_object.ok_or_else(|| PyRuntimeError::new_err("no function"))?;
                let mut object = std::ptr::null_mut();
                // SAFETY: the function takes the tensor over and gives a new reference.
                // If it fails, the owner of the tensor is not specified, and it is left alone.
                let failed = unsafe { to_object(exported.into_raw(), &raw mut object) };
                if failed != 0 {
                    return Err(PyErr::fetch(py));
                }
                // SAFETY: a new reference, or null with an exception set.
                unsafe { Bound::from_owned_ptr_or_err(py, object.cast()) }
            }
            Self::Capsule(from_dlpack) => {
                let exported: Exported<DlManagedTensor> = tensor.export().map_err(no_tensor)?;
                from_dlpack.bind(py).call1((capsule(py, exported)?,))
            }
        }
    }
}

fn no_tensor(error: DlpackError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// A capsule that releases the tensor if nobody takes it.
fn capsule(py: Python<'_>, exported: Exported<DlManagedTensor>) -> PyResult<Bound<'_, PyAny>> {
    let managed = exported.into_raw();
    // SAFETY: the pointer is not null, the name is static, and the destructor fits both.
    let capsule =
        unsafe { ffi::PyCapsule_New(managed.cast(), FRESH.as_ptr(), Some(delete_untaken)) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// Who takes a tensor renames its capsule.
unsafe extern "C" fn delete_untaken(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this once with a capsule of `capsule`; the name says that the tensor
    // was not taken, so that its deleter has not run.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, FRESH.as_ptr()) == 0 {
            return;
        }
        let managed = ffi::PyCapsule_GetPointer(capsule, FRESH.as_ptr()).cast::<DlManagedTensor>();
        if let Some(delete) = (*managed).deleter {
            delete(managed);
        }
    }
}
