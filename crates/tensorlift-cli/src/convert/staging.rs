use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tensorlift::Result;

use super::error::ConvertError;
use super::on_disk;
use super::output::Output;
use crate::target::folder_of;

/// The folder beside the output in which files are written; it is removed with everything left in
/// it.
pub(super) struct Staging {
    scratch: TempDir,
    /// Created with the usual permissions; the temporary one is only for its owner.
    folder: PathBuf,
}

impl Staging {
    pub(super) fn begin(output: &Output) -> Result<Self> {
        let parent = output.parent();
        let fail = |error| on_disk(error, parent);
        let scratch = scratch_in(parent).map_err(fail)?;
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

    /// Copies a file of `folder` that goes with the weights, unless the output has one of its name.
    pub(super) fn take_along(
        &self,
        folder: &Path,
        name: &str,
        output: &Output,
    ) -> Result<Option<PathBuf>> {
        let place = output.place_of(name);
        if fs::symlink_metadata(&place).is_ok() {
            return Ok(None);
        }
        let (from, to) = (folder.join(name), self.path(name));
        let copied = make_parent(&to).and_then(|()| fs::copy(&from, &to));
        copied.map_err(|error| on_disk(error, &from))?;
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
                let place = output.place_of(name);
                make_parent(&place).map_err(fail)?;
                fs::rename(self.path(name), place).map_err(fail)?;
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

    /// The names of all files, with the folders that some are in: weights in order, then the
    /// index, which their dots put last.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        add_names(&self.folder, "", &mut names)?;
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

/// A temporary folder in another; it is removed with everything left in it.
fn scratch_in(folder: &Path) -> io::Result<TempDir> {
    let scratch = tempfile::Builder::new()
        .prefix(".tensorlift-")
        .tempdir_in(folder);
    scratch.map_err(|error| match error.kind() {
        // Without the name of the temporary folder; of other errors, the text alone has the
        // system's code.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => error.kind().into(),
        _ => error,
    })
}

/// Writes a file whole or not at all; a device or a pipe is written to as it is.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = folder_of(path);
    if !folder.is_dir() {
        Err(ConvertError::NoFolder(folder.to_owned()))?;
    }
    write_whole(path, text).map_err(|error| on_disk(error, path))
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // A link is followed, so that its target is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|it| !it.is_file()) {
        return fs::write(&target, text);
    }
    let scratch = scratch_in(folder_of(&target))?;
    let written = scratch.path().join("written");
    fs::write(&written, text)?;
    fs::rename(&written, &target)
}

/// Adds the names of all files in a folder and below it.
fn add_names(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => add_names(&entry.path(), &format!("{name}/"), names)?,
            false => names.push(name),
        }
    }
    Ok(())
}

/// Makes the folder that a file is to be in.
fn make_parent(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)
}
