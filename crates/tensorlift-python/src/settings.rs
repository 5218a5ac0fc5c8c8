//! The settings of the facade's table, as Python's part asks for them.

use pyo3::prelude::*;
use tensorlift::settings;

use crate::error::raise;

/// What environment variables and the program set, by the facade's table.
#[pyclass(frozen, module = "tensorlift._native")]
pub(crate) struct InForce(settings::Settings);

/// A setting that there is: its name, its variable, the values that it takes and what it does.
type Row = (&'static str, String, &'static str, &'static str);

#[pymethods]
impl InForce {
    /// Every setting that there is.
    #[staticmethod]
    fn switches() -> Vec<Row> {
        let rows = settings::SWITCHES.iter();
        rows.map(|it| (it.name, it.variable(), it.values, it.about))
            .collect()
    }

    /// What the environment of this process sets.
    #[staticmethod]
    fn from_environment(py: Python<'_>) -> PyResult<Self> {
        let settings = settings::Settings::from_environment();
        settings.map(Self).map_err(|error| raise(py, &error))
    }

    /// These under others, which come first: the name of each, its value, and what an error is to
    /// call it.
    #[pyo3(name = "with_")]
    fn with(&self, py: Python<'_>, changes: Vec<Change>) -> PyResult<Self> {
        let changed = self.changed(&changes);
        changed.map(Self).map_err(|error| raise(py, &error))
    }

    /// Name, value, and what set it, of each.
    fn list(&self) -> Vec<(&'static str, String, String)> {
        let settings = self.0.in_force().iter();
        settings
            .map(|it| (it.name, it.value.clone(), it.source.clone()))
            .collect()
    }
}

/// A setting that a call makes: its name, its value, and what an error is to call it.
pub(crate) type Change = (String, String, String);

impl InForce {
    pub(crate) fn settings(&self) -> &settings::Settings {
        &self.0
    }

    /// These under those of a call.
    pub(crate) fn changed(&self, changes: &[Change]) -> tensorlift::Result<settings::Settings> {
        let changes = changes.iter();
        self.0
            .clone()
            .with(changes.map(|(name, value, source)| (&**name, &**value, &**source)))
    }
}
