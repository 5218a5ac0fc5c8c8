//! Python's buffer protocol over the memory of one record.

use std::ffi::c_int;
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::span::Span;

/// The bytes of one record in host memory: what numpy arrays are views of.
///
/// It lives as long as any view of it, and its pages go back with the last one.
#[pyclass(frozen, module = "tensorlift._native")]
pub(crate) struct Memory(Arc<Span>);

impl Memory {
    pub(crate) fn new(span: Arc<Span>) -> Self {
        Self(span)
    }
}

#[pymethods]
impl Memory {
    /// The number of bytes.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let span = &slf.get().0;
        let len = ffi::Py_ssize_t::try_from(span.len())
            .map_err(|_| PyBufferError::new_err("the record is larger than a buffer can be"))?;
        // SAFETY: Python gives a `Py_buffer` to fill. The bytes live as long as the object, of
        // which the filled buffer holds a reference, and a read-only span is given as one.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                span.address().cast(),
                len,
                c_int::from(span.is_read_only()),
                flags,
            )
        };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}
