//! Loaded tensors as numpy arrays.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dtypes::Dtypes;
use crate::error::not_made;
use crate::ffi::{ArrayApi, Form};
use crate::span::Span;
use crate::views::{View, Views, is_packed};

/// The bytes of one record in host memory, which arrays are views of: their `base`.
///
/// It lives as long as any view of it, and its pages are returned to the system with the last one.
#[pyclass(frozen, module = "tensorlift._native")]
pub(crate) struct Memory(Arc<Span>);

impl Memory {
    pub(crate) fn span(&self) -> &Span {
        &self.0
    }
}

#[pymethods]
impl Memory {
    /// The number of bytes.
    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Makes arrays, with all that it needs of numpy looked up once.
struct Maker<'a, 'py> {
    api: ArrayApi<'py>,
    dtypes: Dtypes<'a, 'py>,
    /// The memory of each span that several tensors look at.
    memories: Vec<Option<Bound<'py, Memory>>>,
    /// Of the array that is being made.
    shape: Vec<isize>,
    strides: Vec<isize>,
}

/// Puts an array for each tensor into `arrays`, by name, in file order.
pub(crate) fn fill<'py>(
    arrays: &Bound<'py, PyDict>,
    views: &Views,
    dtypes: &Bound<'py, PyDict>,
) -> PyResult<()> {
    let py = arrays.py();
    let mut maker = Maker {
        api: ArrayApi::new(py)?,
        dtypes: Dtypes::new(dtypes),
        memories: vec![None; views.spans().len()],
        shape: Vec::new(),
        strides: Vec::new(),
    };
    for view in views.iter() {
        let name = view.tensor.name();
        let array = maker.array(py, &view);
        arrays.set_item(
            name,
            array.map_err(|error| not_made(py, "numpy", name, error))?,
        )?;
    }
    Ok(())
}

impl<'py> Maker<'_, 'py> {
    fn array(&mut self, py: Python<'py>, view: &View<'_>) -> PyResult<Bound<'py, PyAny>> {
        let memory = self.memory(py, view)?;
        let tensor = view.tensor;
        let (dtype, item_bytes) = self.dtypes.get(tensor.dtype())?;
        self.shape.clear();
        self.strides.clear();
        match is_packed(tensor.dtype()) {
            true => self.shape.push(tensor.span_bytes().try_into()?),
            false => {
                for &size in tensor.shape() {
                    self.shape.push(size.try_into()?);
                }
            }
        }
        match tensor.strides() {
            Some(strides) => {
                for &stride in strides {
                    self.strides
                        .push(stride.saturating_mul(item_bytes).try_into()?);
                }
            }
            None => row_major(&self.shape, item_bytes, &mut self.strides),
        }
        let form = Form {
            dtype: &dtype,
            item_bytes,
            shape: &self.shape,
            strides: &self.strides,
        };
        let memory = memory.as_ref().map(|memory| (memory, view.offset));
        self.api.array(&form, memory)
    }

    /// The memory of a view's span, made once; none for a span of no bytes.
    fn memory(&mut self, py: Python<'py>, view: &View<'_>) -> PyResult<Option<Bound<'py, Memory>>> {
        if view.span.len() == 0 {
            return Ok(None);
        }
        let make = || Bound::new(py, Memory(Arc::clone(view.span)));
        if view.is_whole {
            return make().map(Some);
        }
        let memory = &mut self.memories[view.number];
        if memory.is_none() {
            *memory = Some(make()?);
        }
        Ok(memory.clone())
    }
}

/// The strides of a row-major array, in bytes.
fn row_major(shape: &[isize], item_bytes: usize, strides: &mut Vec<isize>) {
    strides.resize(shape.len(), 0);
    let mut stride = isize::try_from(item_bytes).unwrap_or(isize::MAX);
    for (own, &size) in strides.iter_mut().zip(shape).rev() {
        *own = stride;
        // Only arrays without elements get here with a product that does not fit.
        stride = stride.saturating_mul(size.max(1));
    }
}
