//! Errors of tensorlift as exceptions of Python: one class for each kind.

use pyo3::exceptions::{PyKeyError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorlift::{Error, ErrorKind};

/// The exception for an error; its text is the line that the command line prints.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    make(py, error).unwrap_or_else(|failed| failed)
}

/// An exception for a wrong call.
pub(crate) fn misuse(py: Python<'_>, found: impl Into<String>, remedy: &'static str) -> PyErr {
    let error = Error::new(ErrorKind::Misuse, found.into()).with_remedy(remedy);
    raise(py, &error)
}

fn make(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let classes = py.import("tensorlift._errors")?.getattr("BY_KIND")?;
    let class = classes.get_item(error.kind().as_str())?;
    let details = PyDict::new(py);
    details.set_item("path", error.path())?;
    details.set_item("tensor", error.tensor())?;
    let extent = error.extent().map(|extent| (extent.offset, extent.end()));
    details.set_item("extent", extent)?;
    details.set_item("remedy", error.remedy())?;
    let exception = class.call((format!("{error:#}"),), Some(&details))?;
    Ok(PyErr::from_value(exception))
}

/// An exception for what this version does not serve.
pub(crate) fn unsupported(py: Python<'_>, found: impl Into<String>) -> PyErr {
    raise(py, &Error::new(ErrorKind::Unsupported, found.into()))
}

/// The exception for a tensor that a framework has no object for: it lacks the dtype, or cannot
/// count the shape.
pub(crate) fn not_made(py: Python<'_>, framework: &str, tensor: &str, error: PyErr) -> PyErr {
    let is_refusal = error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyRuntimeError>(py)
        || error.is_instance_of::<PyKeyError>(py)
        || error.is_instance_of::<PyOverflowError>(py);
    if !is_refusal {
        return error;
    }
    let found = format!("{framework} has no object for it: {error}");
    raise(
        py,
        &Error::new(ErrorKind::Unsupported, found).with_tensor(tensor),
    )
}
