//! Errors of tensorlift as exceptions of Python: one class for each kind.

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
    let exception = class.call((error.to_string(),), Some(&details))?;
    Ok(PyErr::from_value(exception))
}

/// An exception for what this version does not serve.
pub(crate) fn unsupported(py: Python<'_>, found: impl Into<String>) -> PyErr {
    raise(py, &Error::new(ErrorKind::Unsupported, found.into()))
}
