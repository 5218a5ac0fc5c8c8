//! Python's garbage collection, held off while many objects are made.

use pyo3::prelude::*;
use pyo3::types::PyModule;

/// While it lives, nothing is collected: what is made under it is in use, and looking at all
/// objects of the program once for every few thousand new ones would take longer than making them.
pub(crate) struct Pause<'py> {
    /// The module `gc`, if it collected before.
    running: Option<Bound<'py, PyModule>>,
}

impl<'py> Pause<'py> {
    pub(crate) fn new(py: Python<'py>) -> PyResult<Self> {
        let gc = py.import("gc")?;
        let is_running = gc.call_method0("isenabled")?.extract()?;
        if is_running {
            gc.call_method0("disable")?;
        }
        Ok(Self {
            running: Some(gc).filter(|_| is_running),
        })
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if let Some(gc) = &self.running {
            // It takes no argument and does not fail.
            let _ = gc.call_method0("enable");
        }
    }
}
