use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// What a measured process is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The engine, in the words of the program that has it.
    pub engine: String,
    /// A file, or a folder of shards.
    pub path: PathBuf,
    /// How many bytes to touch and free right before the clock starts.
    pub prime_bytes: u64,
}

impl Request {
    /// The arguments of a program that has the engine.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        vec![
            self.engine.clone().into(),
            self.path.clone().into(),
            "--prime".into(),
            self.prime_bytes.to_string().into(),
        ]
    }

    /// Takes this process's arguments.
    ///
    /// # Errors
    /// If they are not those of a request.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        const USAGE: &str = "usage: PROGRAM ENGINE PATH [--prime BYTES]";
        let mut arguments = arguments.into_iter().skip(1);
        let engine = arguments.next().ok_or(USAGE)?;
        let path = arguments.next().ok_or(USAGE)?.into();
        let prime_bytes = match arguments.next() {
            None => 0,
            Some(flag) if flag == "--prime" => {
                let bytes = arguments.next().ok_or(USAGE)?;
                bytes.to_str().ok_or(USAGE)?.parse()?
            }
            Some(_) => return Err(USAGE.into()),
        };
        Ok(Self {
            engine: engine.into_string().map_err(|_| USAGE)?,
            path,
            prime_bytes,
        })
    }

    /// The files with tensors: the path itself, or those of the folder, by name.
    ///
    /// # Errors
    /// If the folder cannot be listed or has none.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        if !self.path.is_dir() {
            return Ok(vec![self.path.clone()]);
        }
        let mut files = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let path = file?.path();
            if has_tensors(&path) {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(format!("{}: no shards", self.path.display()).into());
        }
        files.sort();
        Ok(files)
    }
}

fn has_tensors(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("safetensors" | "bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lead_back() {
        let request = Request {
            engine: "naive".into(),
            path: "some/model.bin".into(),
            prime_bytes: 17,
        };
        let program = OsString::from("program");
        let arguments = std::iter::once(program).chain(request.arguments());
        assert_eq!(Request::from_arguments(arguments).unwrap(), request);
    }

    #[test]
    fn too_few_arguments_are_an_error() {
        let arguments = ["program", "naive"].map(OsString::from);
        assert!(Request::from_arguments(arguments).is_err());
    }
}
