use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tensorlift::Result;

use super::on_disk;
use super::output::Output;

/// The folder beside the output in which files are written; it is removed with everything left in
/// it.
pub(super) struct Staging {
    scratch: TempDir,
    /// Created with the usual permissions; the temporary one is only for its owner.
    folder: PathBuf,
}

impl Staging {
    pub(super) fn begin(output: &Output) -> Result<Self> {
        let parent = match output.path().parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let fail = |error| on_disk(error, parent);
        let scratch = tempfile::Builder::new()
            .prefix(".tensorlift-")
            .tempdir_in(parent)
            .map_err(fail)?;
        let folder = scratch.path().join("written");
        fs::create_dir(&folder).map_err(fail)?;
        Ok(Self { scratch, folder })
    }

    /// Where the file of this name is written.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| on_disk(error, &path))
    }

    /// Copies a file that goes with the weights, unless the output has one of its name.
    pub(super) fn take_along(&self, file: &Path, output: &Output) -> Result<Option<PathBuf>> {
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
            return Ok(None);
        };
        let place = output.place_of(name);
        if fs::symlink_metadata(&place).is_ok() {
            return Ok(None);
        }
        let copied = fs::read(file).and_then(|bytes| fs::write(self.path(name), bytes));
        copied.map_err(|error| on_disk(error, file))?;
        Ok(Some(place))
    }

    /// Moves what was written to where it belongs, and gives the paths.
    pub(super) fn commit(self, output: &Output, force: bool) -> Result<Vec<PathBuf>> {
        let fail = |error| on_disk(error, output.path());
        let names = self.names().map_err(fail)?;
        self.open_up(&names).map_err(fail)?;
        // A name that was free when the conversion began may be taken now.
        output.check_free(force)?;
        if !output.is_file() && !output.path().exists() {
            fs::rename(&self.folder, output.path()).map_err(fail)?;
        } else {
            // The index comes last, when all files that it names exist.
            for name in &names {
                fs::rename(self.path(name), output.place_of(name)).map_err(fail)?;
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for path in output.stale(&names) {
                fs::remove_file(&path).map_err(|error| on_disk(error, &path))?;
            }
        }
        // Only an empty folder remains, which is harmless if it cannot be removed.
        let _ = self.scratch.close();
        Ok(names.iter().map(|name| output.place_of(name)).collect())
    }

    /// The names of all files: weights in order, then the index, which their dots put last.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// Gives all files the permissions of newly made ones: some are written through temporary
    /// files, which are for their owner only.
    fn open_up(&self, names: &[String]) -> io::Result<()> {
        let sample = self.scratch.path().join("sample");
        let permissions = File::create(&sample)?.metadata()?.permissions();
        for name in names {
            fs::set_permissions(self.path(name), permissions.clone())?;
        }
        Ok(())
    }
}
