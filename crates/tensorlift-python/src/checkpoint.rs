//! An open checkpoint, as Python's part asks it.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use tensorlift::{Catalog, Entry, Result, Slice};

use crate::error::raise;
use crate::ffi::Parameters;
use crate::load::{self, Request};
use crate::open::OpenRequest;
use crate::state::{self, Rebuild};
use crate::watch::{Link, Watch};

/// An open checkpoint: what its files list, without a tensor's bytes.
#[pyclass(frozen, module = "tensorlift._native")]
pub(crate) struct Checkpoint {
    inner: tensorlift::Checkpoint,
}

/// What [`Checkpoint::entry`] tells: name, dtype, shape, strides, bytes, file, first byte and end
/// in the file, `requires_grad`, number of the record.
type Row<'py> = (
    Bound<'py, PyString>,
    &'static str,
    Bound<'py, PyTuple>,
    Option<Bound<'py, PyTuple>>,
    u64,
    usize,
    u64,
    u64,
    bool,
    usize,
);

#[pymethods]
impl Checkpoint {
    /// Opens files, folders, index files or models in the Hugging Face cache, several as one.
    #[staticmethod]
    fn open(py: Python<'_>, targets: Vec<PathBuf>, request: OpenRequest) -> PyResult<Self> {
        let options = request.options().map_err(|error| raise(py, &error))?;
        Self::make(py, request.root, move || {
            let mut targets = targets.iter();
            let first = targets.next().map_or(Path::new(""), PathBuf::as_path);
            let mut checkpoint = options.open(first)?;
            for target in targets {
                checkpoint = checkpoint.joined(&options.open(target)?)?;
            }
            Ok(checkpoint)
        })
    }

    /// Opens the bytes of one file.
    #[staticmethod]
    #[pyo3(signature = (bytes, root=None))]
    fn from_bytes(py: Python<'_>, bytes: PyBackedBytes, root: Option<String>) -> PyResult<Self> {
        Self::make(py, root, move || tensorlift::Checkpoint::from_bytes(bytes))
    }

    fn __len__(&self) -> usize {
        self.catalog().len()
    }

    fn __contains__(&self, name: &str) -> bool {
        self.catalog().position(name).is_some()
    }

    /// All names, in file order.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.catalog().entries().iter().map(Entry::name))
    }

    /// What is known of one tensor.
    fn entry<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Row<'py>> {
        let entry = self.inner.entry(name).map_err(|error| raise(py, &error))?;
        row(py, entry)
    }

    /// What is known of all tensors.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows: PyResult<Vec<Row<'py>>> = self
            .catalog()
            .entries()
            .iter()
            .map(|entry| row(py, entry))
            .collect();
        PyList::new(py, rows?)
    }

    /// What the file says of itself.
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.catalog().metadata() {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    /// The files, in the order in which entries count them.
    fn files(&self) -> Vec<PathBuf> {
        self.inner.files().map(PathBuf::from).collect()
    }

    /// The format of each file.
    fn formats(&self) -> Vec<&'static str> {
        self.inner.formats().collect()
    }

    /// What the path was resolved to.
    fn chosen(&self) -> String {
        self.inner.choice().chosen.display().to_string()
    }

    /// What was passed over, and why.
    fn passed_over(&self) -> Vec<(String, String)> {
        let others = self.inner.choice().passed_over.iter();
        others
            .map(|other| (other.path.display().to_string(), other.why().to_string()))
            .collect()
    }

    /// Paths within a PyTorch file that hold tensors, with their number.
    fn roots(&self) -> Vec<(String, usize)> {
        let roots = self.inner.roots();
        roots
            .map(|(path, tensors)| (path.to_owned(), tensors))
            .collect()
    }

    /// Rebuilds what a PyTorch file holds, with these tensors by name; `maker` makes what is more
    /// than plain data.
    fn rebuild<'py>(
        &self,
        py: Python<'py>,
        tensors: Bound<'py, PyDict>,
        maker: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = self
            .inner
            .torch_state()
            .map_err(|error| raise(py, &error))?;
        Rebuild::new(state, &tensors, &maker).root()
    }

    /// The devices that the storages of a PyTorch file were on, and how many bytes of them no
    /// tensor looks at.
    fn storages(&self, py: Python<'_>) -> PyResult<(Vec<String>, u64)> {
        let state = self
            .inner
            .torch_state()
            .map_err(|error| raise(py, &error))?;
        Ok((state::locations(state), unseen_bytes(self.catalog())))
    }

    /// A checkpoint of one tensor's part: the indices from first to end of each dimension that is
    /// listed.
    fn part(
        &self,
        py: Python<'_>,
        name: &str,
        ranges: Vec<(usize, usize, usize)>,
    ) -> PyResult<Self> {
        let slices = ranges
            .into_iter()
            .map(|(dim, start, end)| Slice::range(dim, start..end));
        let part = self.inner.part(name, slices);
        let inner = part.map_err(|error| raise(py, &error))?;
        Ok(Self { inner })
    }

    /// What would be read, and where to: as text, or as JSON.
    fn plan(&self, py: Python<'_>, request: Request, json: bool) -> PyResult<String> {
        let loader = load::loader(&self.inner, &request, &Link::default());
        let plan = loader.and_then(|loader| loader.plan());
        let plan = plan.map_err(|error| raise(py, &error))?;
        match json {
            true => load::json(&plan),
            false => Ok(plan.to_string()),
        }
    }

    /// Loads into objects of a framework, which are put into `tensors` by name; returns the report as
    /// JSON and as text.
    ///
    /// `dtypes` says what the framework calls each dtype.
    #[pyo3(signature = (tensors, request, framework, dtypes, progress=None))]
    fn load<'py>(
        &self,
        tensors: &Bound<'py, PyDict>,
        request: Request,
        framework: &str,
        dtypes: Bound<'py, PyDict>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(String, String)> {
        load::load(tensors, &self.inner, &request, framework, &dtypes, progress)
    }

    /// Loads into memory that is there: objects of contiguous bytes, by name.
    #[pyo3(signature = (request, parameters, progress=None))]
    fn load_into<'py>(
        &self,
        py: Python<'py>,
        request: Request,
        parameters: Vec<(String, Bound<'py, PyAny>)>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(String, String)> {
        let parameters = Parameters::new(py, parameters)?;
        load::load_into(py, &self.inner, &request, parameters, progress)
    }
}

impl Checkpoint {
    fn make(
        py: Python<'_>,
        root: Option<String>,
        open: impl FnOnce() -> Result<tensorlift::Checkpoint> + Send,
    ) -> PyResult<Self> {
        let opened = Watch::new(None).run(py, move || {
            let checkpoint = open()?;
            match root {
                Some(root) if root == "auto" => checkpoint.model(),
                Some(root) => checkpoint.root(&root),
                None => Ok(checkpoint),
            }
        })?;
        let inner = opened.map_err(|error| raise(py, &error))?;
        Ok(Self { inner })
    }

    fn catalog(&self) -> &Catalog {
        self.inner.catalog()
    }
}

/// Bytes before the first and behind the last byte of each record that an entry looks at.
fn unseen_bytes(catalog: &Catalog) -> u64 {
    let mut ranges: Vec<Option<(u64, u64)>> = vec![None; catalog.records().len()];
    for entry in catalog.entries() {
        let start = entry.view().offset;
        let end = start + entry.span_bytes();
        let range = &mut ranges[entry.view().record.index()];
        *range = Some(match *range {
            Some((first, last)) => (first.min(start), last.max(end)),
            None => (start, end),
        });
    }
    let seen = ranges.iter().zip(catalog.records()).map(|(range, record)| {
        let seen = range.map_or(0, |(first, last)| last - first);
        record.len().unwrap_or(0).saturating_sub(seen)
    });
    seen.sum()
}

fn row<'py>(py: Python<'py>, entry: &Entry) -> PyResult<Row<'py>> {
    let strides = entry.layout().strides();
    let strides = strides.map(|strides| PyTuple::new(py, strides));
    let extent = entry.extent();
    Ok((
        PyString::new(py, entry.name()),
        entry.dtype().as_str(),
        PyTuple::new(py, entry.shape())?,
        strides.transpose()?,
        entry.byte_len(),
        extent.shard.index(),
        extent.offset,
        extent.end(),
        entry.requires_grad(),
        entry.view().record.index(),
    ))
}
