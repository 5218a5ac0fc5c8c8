use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorlift_storage::Storage;

/// A file of the checkpoint: its name for people, and its bytes.
#[derive(Clone, Debug)]
pub struct Shard {
    path: PathBuf,
    storage: Arc<dyn Storage>,
}

impl Shard {
    /// A shard that errors and reports call `path`.
    pub fn new(path: impl Into<PathBuf>, storage: Arc<dyn Storage>) -> Self {
        Self {
            path: path.into(),
            storage,
        }
    }

    /// What errors and reports call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }
}
