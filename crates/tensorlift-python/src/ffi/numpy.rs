//! numpy arrays over memory of ours, made by numpy's own C functions.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::numpy::Memory;

/// Places in numpy's table of functions; they are the same in all versions from 1.7 on.
const VERSION: usize = 0;
const ARRAY_TYPE: usize = 2;
const NEW_FROM_DESCR: usize = 94;
const SET_BASE_OBJECT: usize = 282;

/// The flag of arrays that may be written to.
const WRITEABLE: c_int = 0x0400;

type Version = unsafe extern "C" fn() -> c_uint;
type NewFromDescr = unsafe extern "C" fn(
    *mut ffi::PyTypeObject,
    *mut ffi::PyObject,
    c_int,
    *const isize,
    *const isize,
    *mut c_void,
    c_int,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type SetBaseObject = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> c_int;

/// numpy's functions that make an array.
pub(crate) struct ArrayApi<'py> {
    array_type: *mut ffi::PyTypeObject,
    new_from_descr: NewFromDescr,
    set_base_object: SetBaseObject,
    /// Keeps the table alive.
    _capsule: Bound<'py, PyAny>,
}

/// The dtype, shape and strides of an array; strides count bytes.
pub(crate) struct Form<'a, 'py> {
    pub(crate) dtype: &'a Bound<'py, PyAny>,
    pub(crate) item_bytes: usize,
    pub(crate) shape: &'a [isize],
    pub(crate) strides: &'a [isize],
}

impl<'py> ArrayApi<'py> {
    /// The functions of the numpy that is installed.
    pub(crate) fn new(py: Python<'py>) -> PyResult<Self> {
        let module = py
            .import("numpy._core._multiarray_umath")
            .or_else(|_| py.import("numpy.core._multiarray_umath"))?;
        let capsule = module.getattr("_ARRAY_API")?;
        let table = capsule.cast::<PyCapsule>()?.pointer_checked(None)?;
        let table = table.cast::<*mut c_void>().as_ptr();
        // SAFETY: the capsule holds numpy's table of functions for as long as it lives, and these
        // are the places and types of four of its items.
        let (version, array_type, new_from_descr, set_base_object) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Version>(*table.add(VERSION)),
                (*table.add(ARRAY_TYPE)).cast(),
                std::mem::transmute::<*mut c_void, NewFromDescr>(*table.add(NEW_FROM_DESCR)),
                std::mem::transmute::<*mut c_void, SetBaseObject>(*table.add(SET_BASE_OBJECT)),
            )
        };
        // SAFETY: the first function has had this type in all versions.
        let major = unsafe { version() } >> 24;
        if !matches!(major, 1 | 2) {
            let found = format!("expected the C interface of numpy 1 or 2, found version {major}");
            return Err(PyImportError::new_err(found));
        }
        Ok(Self {
            array_type,
            new_from_descr,
            set_base_object,
            _capsule: capsule,
        })
    }

    /// An array of this form over `memory`, from its byte `offset` on; without memory, one that
    /// owns what little it needs.
    pub(crate) fn array(
        &self,
        form: &Form<'_, 'py>,
        memory: Option<(&Bound<'py, Memory>, usize)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some((memory, offset)) = memory else {
            return self.make(form, ptr::null_mut(), 0);
        };
        let span = memory.get().span();
        let reach = reach(form).and_then(|reach| reach.checked_add(offset));
        if reach.is_none_or(|end| end > span.len()) {
            let found = "the array would leave its memory: its dtype is wider than the file's";
            return Err(PyValueError::new_err(found));
        }
        let flags = match span.is_read_only() {
            true => 0,
            false => WRITEABLE,
        };
        let array = self.make(form, span.address().wrapping_add(offset).cast(), flags)?;
        // SAFETY: an array that was just made, and an object of which it takes a reference over.
        // The object owns the bytes, and the array keeps it from here on.
        match unsafe { (self.set_base_object)(array.as_ptr(), memory.clone().into_ptr()) } {
            0 => Ok(array),
            _ => Err(PyErr::fetch(memory.py())),
        }
    }

    fn make(
        &self,
        form: &Form<'_, 'py>,
        start: *mut c_void,
        flags: c_int,
    ) -> PyResult<Bound<'py, PyAny>> {
        let dimensions = c_int::try_from(form.shape.len())?;
        let strides = match start.is_null() {
            true => ptr::null(),
            false => form.strides.as_ptr(),
        };
        // SAFETY: shape and strides have that many items, numpy takes over the reference of the
        // dtype, and `array` checked that every element lies in the memory at `start`.
        let array = unsafe {
            (self.new_from_descr)(
                self.array_type,
                form.dtype.clone().into_ptr(),
                dimensions,
                form.shape.as_ptr(),
                strides,
                start,
                flags,
                ptr::null_mut(),
            )
        };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(form.dtype.py(), array) }
    }
}

/// The bytes from the first to the last element; strides are not negative.
fn reach(form: &Form<'_, '_>) -> Option<usize> {
    if form.shape.len() != form.strides.len() {
        return None;
    }
    if form.shape.contains(&0) {
        return Some(0);
    }
    let mut reach = form.item_bytes;
    for (&size, &stride) in form.shape.iter().zip(form.strides) {
        let (size, stride) = (usize::try_from(size).ok()?, usize::try_from(stride).ok()?);
        reach = reach.checked_add((size - 1).checked_mul(stride)?)?;
    }
    Some(reach)
}
