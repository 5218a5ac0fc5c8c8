//! How a checkpoint is opened.

use std::collections::HashMap;
use std::path::PathBuf;

use pyo3::prelude::*;
use tensorlift::{Checkpoint, Error, ErrorKind, Limits, OpenOptions, Policy, Result};

use crate::settings::InForce;

/// How to open: a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OpenRequest {
    variant: Option<String>,
    hub_cache: Option<PathBuf>,
    strict: bool,
    pub(crate) root: Option<String>,
    /// Ceilings for untrusted files, by name.
    limits: HashMap<String, u64>,
    settings: Py<InForce>,
}

impl OpenRequest {
    pub(crate) fn options(&self) -> Result<OpenOptions> {
        let mut options = Checkpoint::options().settings(self.settings.get().settings());
        if let Some(variant) = &self.variant {
            options = options.variant(variant);
        }
        if let Some(folder) = &self.hub_cache {
            options = options.hub_cache(folder);
        }
        if self.strict {
            options = options.policy(Policy::Strict);
        }
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            let set = limits.set(name, *value);
            set.map_err(|expected| Error::new(ErrorKind::Misuse, format!("limits: {expected}")))?;
        }
        Ok(options.limits(limits))
    }
}
