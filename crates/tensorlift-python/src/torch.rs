//! Loaded tensors as tensors of torch.

use std::any::Any;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tensorlift::Dtype;
use tensorlift::cuda::dlpack::Tensor as DlTensor;
use tensorlift_tensor_meta::Layout;

use crate::dtypes::Dtypes;
use crate::error::{misuse, not_made};
use crate::ffi::Importer;
use crate::span::Span;
use crate::views::{View, Views, is_packed};

/// Makes tensors, with all that it needs of torch looked up once.
struct Maker<'a, 'py> {
    importer: Importer,
    empty: Bound<'py, PyAny>,
    empty_strided: Bound<'py, PyAny>,
    dtypes: Dtypes<'a, 'py>,
    views: &'a Views,
    /// The storage of each span that is shared or looked at in part.
    storages: Vec<Option<Bound<'py, PyAny>>>,
}

/// Puts a tensor of torch's for each tensor into `tensors`, by name, in file order.
pub(crate) fn fill<'py>(
    tensors: &Bound<'py, PyDict>,
    views: &Views,
    dtypes: &Bound<'py, PyDict>,
) -> PyResult<()> {
    let py = tensors.py();
    if views.spans().iter().any(|span| span.is_read_only()) {
        let found = "torch has no read-only tensors, and writing to a mapping ends the process";
        return Err(misuse(
            py,
            found,
            "ask for numpy arrays, or for another reader",
        ));
    }
    let torch = py.import("torch")?;
    let mut maker = Maker {
        importer: Importer::torch(py)?,
        empty: torch.getattr("empty")?,
        empty_strided: torch.getattr("empty_strided")?,
        dtypes: Dtypes::new(dtypes),
        views,
        storages: vec![None; views.spans().len()],
    };
    for view in views.iter() {
        let name = view.tensor.name();
        let tensor = maker.tensor(py, &view);
        tensors.set_item(
            name,
            tensor.map_err(|error| not_made(py, "torch", name, error))?,
        )?;
    }
    Ok(())
}

impl<'py> Maker<'_, 'py> {
    fn tensor(&mut self, py: Python<'py>, view: &View<'_>) -> PyResult<Bound<'py, PyAny>> {
        let tensor = view.tensor;
        let layout = tensor.entry().layout();
        // Of what was cut or converted, the entry tells the strides in the file.
        let is_as_stored = layout.strides() == tensor.strides();
        let imports = is_as_stored && imports(tensor.dtype()) && layout.is_plain(tensor.dtype());
        if imports && view.is_whole && view.span.len() > 0 {
            return self.import(py, view.span, tensor.dtype(), layout);
        }
        let (dtype, _) = self.dtypes.get(tensor.dtype())?;
        let (shape, element) = match is_packed(tensor.dtype()) {
            true => (packed_shape(tensor), 1),
            false => (tensor.shape().to_vec(), tensor.dtype().alignment()),
        };
        let strides = match tensor.strides() {
            Some(strides) => strides.to_vec(),
            None => row_major(&shape),
        };
        let (shape, strides) = (PyTuple::new(py, shape)?, PyTuple::new(py, strides)?);
        let options = PyDict::new(py);
        options.set_item(intern!(py, "dtype"), dtype)?;
        if view.span.len() == 0 {
            return self.empty_strided.call((shape, strides), Some(&options));
        }
        let storage = match view.offset % element {
            0 => self.storage(py, view)?,
            // Of another width than the others on its record, and out of step with them.
            _ => {
                let span = view.span.part(view.offset, tensor.span_bytes());
                let storage = self.import_storage(py, &Arc::new(span))?;
                return self.view_of(py, &storage, 0, shape, strides, &options);
            }
        };
        self.view_of(
            py,
            &storage,
            view.offset / element,
            shape,
            strides,
            &options,
        )
    }

    fn view_of(
        &self,
        py: Python<'py>,
        storage: &Bound<'py, PyAny>,
        offset: usize,
        shape: Bound<'py, PyTuple>,
        strides: Bound<'py, PyTuple>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let device = storage.getattr(intern!(py, "device"))?;
        options.set_item(intern!(py, "device"), device)?;
        let tensor = self.empty.call((0,), Some(options))?;
        tensor.call_method1(intern!(py, "set_"), (storage, offset, shape, strides))
    }

    /// The storage of a view's span, made once.
    fn storage(&mut self, py: Python<'py>, view: &View<'_>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(storage) = &self.storages[view.number] {
            return Ok(storage.clone());
        }
        let storage = self.import_storage(py, &self.views.spans()[view.number])?;
        self.storages[view.number] = Some(storage.clone());
        Ok(storage)
    }

    fn import_storage(&self, py: Python<'py>, span: &Arc<Span>) -> PyResult<Bound<'py, PyAny>> {
        let layout = Layout::contiguous([span.len()]);
        let layout = layout.map_err(|error| misuse(py, error.to_string(), "load less at once"))?;
        let bytes = self.import(py, span, Dtype::U8, &layout)?;
        bytes.call_method0(intern!(py, "untyped_storage"))
    }

    fn import(
        &self,
        py: Python<'py>,
        span: &Arc<Span>,
        dtype: Dtype,
        layout: &Layout,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tensor = DlTensor {
            address: span.address().addr() as u64,
            device: span.device(),
            dtype,
            layout,
            read_only: false,
            owner: Arc::clone(span) as Arc<dyn Any + Send + Sync>,
        };
        self.importer.import(py, tensor)
    }
}

/// The dtypes that every torch takes by DLPack.
const fn imports(dtype: Dtype) -> bool {
    matches!(
        dtype,
        Dtype::I8
            | Dtype::U8
            | Dtype::I16
            | Dtype::I32
            | Dtype::I64
            | Dtype::F16
            | Dtype::BF16
            | Dtype::F32
            | Dtype::F64
            | Dtype::C64
            | Dtype::C128
    )
}

/// Two elements of F4 are one of torch's; of other packed types, there are only bytes.
fn packed_shape(tensor: &tensorlift::Tensor) -> Vec<usize> {
    match (tensor.dtype(), tensor.shape()) {
        (Dtype::F4, [outer @ .., last]) if last % 2 == 0 => {
            let mut shape = outer.to_vec();
            shape.push(last / 2);
            shape
        }
        _ => vec![tensor.span_bytes()],
    }
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim].max(1);
    }
    strides
}
