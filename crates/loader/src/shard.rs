use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorlift_storage::Storage;

/// A file of the checkpoint: its name for messages, its format, and its bytes.
#[derive(Clone, Debug)]
pub struct Shard {
    path: PathBuf,
    format: &'static str,
    storage: Arc<dyn Storage>,
}

impl Shard {
    /// A shard that errors and reports call `path`.
    pub fn new(path: impl Into<PathBuf>, storage: Arc<dyn Storage>) -> Self {
        Self {
            path: path.into(),
            format: "unknown",
            storage,
        }
    }

    /// The same shard with a format to report.
    #[must_use]
    pub fn with_format(self, format: &'static str) -> Self {
        Self { format, ..self }
    }

    /// What errors and reports call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format, for reports.
    #[must_use]
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// Its bytes.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }
}
