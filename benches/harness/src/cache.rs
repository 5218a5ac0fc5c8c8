//! The state of the page cache before a run.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use tensorlift_storage::measure;

use crate::definition::Cache;

/// Brings the files into a state; `Err` says why it cannot be had.
pub(crate) fn bring_to(cache: Cache, files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        let file = File::open(path)?;
        match cache {
            Cache::Cold => measure::cool(&file)?,
            // It is nowhere but in memory.
            Cache::Tmpfs => {}
            Cache::Warm => measure::warm(&file, || true)?,
        }
    }
    Ok(())
}
