//! What a framework calls the dtypes of a load.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorlift::Dtype;

/// The framework's dtypes, each looked up once.
pub(crate) struct Dtypes<'a, 'py> {
    by_name: &'a Bound<'py, PyDict>,
    /// Those that were asked for, with the bytes of an element; a checkpoint has few.
    found: Vec<(Dtype, Bound<'py, PyAny>, usize)>,
}

impl<'a, 'py> Dtypes<'a, 'py> {
    pub(crate) fn new(by_name: &'a Bound<'py, PyDict>) -> Self {
        Self {
            by_name,
            found: Vec::new(),
        }
    }

    /// What the framework calls a dtype, and the bytes of an element of it.
    ///
    /// # Errors
    /// A `KeyError` for a dtype that the framework lacks.
    pub(crate) fn get(&mut self, dtype: Dtype) -> PyResult<(Bound<'py, PyAny>, usize)> {
        let known = self.found.iter().find(|(known, ..)| *known == dtype);
        if let Some((_, named, bytes)) = known {
            return Ok((named.clone(), *bytes));
        }
        let named = self.by_name.as_any().get_item(dtype.as_str())?;
        let bytes: usize = named.getattr("itemsize")?.extract()?;
        self.found.push((dtype, named.clone(), bytes));
        Ok((named, bytes))
    }
}
