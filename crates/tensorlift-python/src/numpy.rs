//! Loaded tensors as numpy arrays.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::ffi::Memory;
use crate::views::{View, Views, is_packed};

/// An array for each tensor, by name, in file order.
pub(crate) fn arrays<'py>(
    py: Python<'py>,
    views: &Views,
    dtypes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let ndarray = py.import("numpy")?.getattr("ndarray")?;
    let memories = views.spans().iter().map(|span| {
        // numpy makes no array over memory of no bytes.
        let memory = (span.len() > 0).then(|| Bound::new(py, Memory::new(span.clone())));
        memory.transpose()
    });
    let memories: Vec<Option<Bound<'py, Memory>>> = memories.collect::<PyResult<_>>()?;
    let arrays = PyDict::new(py);
    for view in views.iter() {
        let memory = memories[view.number].as_ref();
        arrays.set_item(view.tensor.name(), array(&view, memory, &ndarray, dtypes)?)?;
    }
    Ok(arrays)
}

fn array<'py>(
    view: &View<'_>,
    memory: Option<&Bound<'py, Memory>>,
    ndarray: &Bound<'py, PyAny>,
    dtypes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, tensor) = (ndarray.py(), view.tensor);
    let dtype = dtypes.as_any().get_item(tensor.dtype().as_str())?;
    if is_packed(tensor.dtype()) {
        let shape = (tensor.span_bytes(),);
        return match memory {
            Some(memory) => ndarray.call1((shape, dtype, memory, view.offset)),
            None => ndarray.call1((shape, dtype)),
        };
    }
    let shape = PyTuple::new(py, tensor.shape())?;
    let element = tensor.dtype().alignment();
    match (memory, tensor.strides()) {
        (None, _) => ndarray.call1((shape, dtype)),
        (Some(memory), None) => ndarray.call1((shape, dtype, memory, view.offset)),
        (Some(memory), Some(strides)) => {
            let strides = PyTuple::new(py, strides.iter().map(|stride| stride * element))?;
            ndarray.call1((shape, dtype, memory, view.offset, strides))
        }
    }
}
