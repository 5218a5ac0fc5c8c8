//! From a request of Python's to a load of the facade.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorlift::cuda::{CudaDevice, Gds};
use tensorlift::{
    Checkpoint, Device, Dtype, DtypePolicy, Entry, Error, ErrorKind, Loaded, Loader, Placement,
    Result,
};

use crate::collection::Pause;
use crate::error::raise;
use crate::ffi::{Parameters, PythonHost};
use crate::settings::{Change, InForce};
use crate::views::Views;
use crate::watch::{Link, Watch};
use crate::{fork, numpy, torch};

/// What to load, where to, and how: a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Request {
    /// The names; all without.
    names: Option<Vec<String>>,
    /// The devices: `cpu`, `cuda:0`.
    devices: Vec<String>,
    /// The position of the device of each name, where there are several.
    device_of: Option<HashMap<String, usize>>,
    /// What the environment and the program set.
    settings: Py<InForce>,
    /// What this call sets.
    changes: Vec<Change>,
    /// The dtype of each of these tensors, which are floats.
    dtype_of: Option<HashMap<String, String>>,
}

/// The loader of a request.
pub(crate) fn loader<'a>(
    checkpoint: &'a Checkpoint,
    request: &Request,
    link: &Link,
) -> Result<Loader<'a>> {
    let settings = request.settings.get().changed(&request.changes)?;
    let placement = placement(checkpoint, request, gds(settings.gds()))?;
    let mut loader = checkpoint.loader().place(placement).settings(&settings);
    if let Some(dtype_of) = &request.dtype_of {
        let dtypes = dtypes(dtype_of)?;
        loader = loader.change_options(|options| options.dtype(dtypes));
    }
    if let Some(names) = &request.names {
        loader = loader.select_names(names.iter().map(String::as_str));
    }
    let counter = Arc::clone(&link.counter);
    let loader = loader.progress(move |step| counter.set(step.bytes_done, step.bytes_total));
    Ok(loader.cancel_token(link.cancel.clone()))
}

/// Loads into objects of a framework, which are put into `tensors`; returns the report as JSON and as
/// text.
pub(crate) fn load<'py>(
    tensors: &Bound<'py, PyDict>,
    checkpoint: &Checkpoint,
    request: &Request,
    framework: &str,
    dtypes: &Bound<'py, PyDict>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<(String, String)> {
    let py = tensors.py();
    let watch = Watch::new(progress);
    let link = watch.link.clone();
    let loaded = watch.run(py, move || loader(checkpoint, request, &link)?.load())?;
    let loaded = loaded.map_err(|error| raise(py, &error))?;
    let (report, line) = (json(loaded.report())?, loaded.report().to_string());
    make_objects(tensors, loaded, framework, dtypes)?;
    Ok((report, line))
}

/// Loads into memory of Python's; returns the report as JSON and as text.
pub(crate) fn load_into<'py>(
    py: Python<'py>,
    checkpoint: &Checkpoint,
    request: &Request,
    mut parameters: Parameters,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<(String, String)> {
    let watch = Watch::new(progress);
    let link = watch.link.clone();
    let memory = parameters.memory();
    let loaded = watch.run(py, move || {
        let loader = loader(checkpoint, request, &link)?;
        loader.load_into(memory).map_err(|failed| failed.error)
    })?;
    let loaded = loaded.map_err(|error| raise(py, &error))?;
    Ok((json(&loaded.report)?, loaded.report.to_string()))
}

fn make_objects<'py>(
    tensors: &Bound<'py, PyDict>,
    loaded: Loaded,
    framework: &str,
    dtypes: &Bound<'py, PyDict>,
) -> PyResult<()> {
    let views = Views::new(loaded);
    let _pause = Pause::new(tensors.py())?;
    match framework {
        "numpy" => numpy::fill(tensors, &views, dtypes),
        "torch" => torch::fill(tensors, &views, dtypes),
        other => Err(PyValueError::new_err(format!("no framework {other:?}"))),
    }
}

/// Something of the facade's as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

fn placement(checkpoint: &Checkpoint, request: &Request, gds: Gds) -> Result<Placement> {
    let devices = request.devices.iter().map(|name| device(name, gds));
    let devices: Vec<Arc<dyn Device>> = devices.collect::<Result<_>>()?;
    let Some(device_of) = &request.device_of else {
        return Ok(Placement::by(devices, |_| 0));
    };
    let catalog = Arc::clone(checkpoint.catalog());
    let mut by_position = vec![0; catalog.len()];
    for (name, &device) in device_of {
        if let Some(position) = catalog.position(name) {
            by_position[position] = device;
        }
    }
    Ok(Placement::by(devices, move |entry: &Entry| {
        let position = catalog.position(entry.name());
        position.map_or(0, |position| by_position[position])
    }))
}

/// The dtype of each tensor: that of the file for those without a name here.
fn dtypes(dtype_of: &HashMap<String, String>) -> Result<DtypePolicy> {
    let pairs = dtype_of
        .iter()
        .map(|(name, of)| Ok((name.clone(), dtype(of)?)));
    let dtype_of: HashMap<String, Dtype> = pairs.collect::<Result<_>>()?;
    Ok(DtypePolicy::by(move |entry| {
        let dtype = dtype_of.get(entry.name());
        dtype.copied().unwrap_or(entry.dtype())
    }))
}

fn dtype(name: &str) -> Result<Dtype> {
    let remedy = "name F64, F32, F16 or BF16";
    Dtype::from_name(name).ok_or_else(|| unknown("dtype", name, remedy))
}

fn device(name: &str, gds: Gds) -> Result<Arc<dyn Device>> {
    if name == "cpu" {
        return Ok(Arc::new(PythonHost));
    }
    let ordinal = name
        .strip_prefix("cuda:")
        .and_then(|text| text.parse().ok());
    match ordinal {
        Some(ordinal) => {
            fork::check_cuda().map_err(Error::from)?;
            let device = CudaDevice::options(ordinal).gds(gds).build();
            Ok(Arc::new(device.map_err(Error::from)?))
        }
        None => Err(unknown(
            "device",
            name,
            "name `cpu` or a GPU such as `cuda:0`",
        )),
    }
}

fn gds(setting: Option<bool>) -> Gds {
    match setting {
        None => Gds::Auto,
        Some(true) => Gds::On,
        Some(false) => Gds::Off,
    }
}

fn unknown(what: &str, name: &str, remedy: &'static str) -> Error {
    let found = format!("expected the name of a {what}, found {name:?}");
    Error::new(ErrorKind::Misuse, found).with_remedy(remedy)
}
