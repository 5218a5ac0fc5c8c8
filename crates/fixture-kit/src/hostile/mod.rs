//! Broken, lying and odd checkpoints, each with the verdict that a reader must reach.
//!
//! The files come from recipes, so that each one differs from a sound file in one thing, which
//! [`Case::why`] names. Whatever the verdict, a reader neither panics nor hangs, keeps its memory
//! within the size of the file plus 64 MiB, and runs nothing that the file names: some files try
//! to make a file called [`CANARY`] in the current folder.
//!
//! ```
//! let folder = std::env::temp_dir().join("tensorlift-hostile-example");
//! let manifest = tensorlift_fixture_kit::hostile::write_all(&folder)?;
//! assert!(manifest.ends_with("manifest.json"));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod archives;
mod bombs;
mod folders;
mod foreign;
mod globals;
mod indexes;
mod legacy;
mod opcodes;
mod parts;
mod records;
mod safetensors;
mod tar;
mod tensors;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde_json::{Value, json};

use crate::ExpectedTensor;

/// The file that code in hostile files creates in the current folder if it is run.
pub const CANARY: &str = "hostile-canary";

/// A hostile or odd checkpoint.
pub struct Case {
    /// A unique name, fit for a folder.
    pub name: String,
    /// What to open, below the folder of the case; `.` for the folder itself.
    pub file_name: String,
    /// The verdict that a reader must reach.
    pub verdict: Verdict,
    /// Why it is wrong or odd.
    pub why: String,
    make: Box<dyn Fn() -> Vec<CaseFile> + Send + Sync>,
}

/// The verdict on a [`Case`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It loads, and these are its tensors.
    Loads {
        /// In the order of the file.
        tensors: Vec<ExpectedTensor>,
    },
    /// It is an error.
    Refused,
    /// Both are acceptable: the formats leave it open, or it depends on a limit.
    Either,
}

/// A file of a [`Case`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFile {
    /// The path below the folder of the case, with `/` between its parts.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Case {
    /// Its files, generated at each call.
    #[must_use]
    pub fn files(&self) -> Vec<CaseFile> {
        (self.make)()
    }

    /// The bytes of the only file, or of the first.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let first = self.files().into_iter().next();
        first.map(|file| file.bytes).unwrap_or_default()
    }

    /// Writes its files into `folder`, which is created, and returns what to open.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        for file in self.files() {
            let path = folder.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, file.bytes)?;
        }
        match self.file_name.as_str() {
            "." => Ok(folder.to_owned()),
            name => Ok(folder.join(name)),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("file_name", &self.file_name)
            .field("verdict", &self.verdict)
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

/// All cases. The files are made when they are asked for.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for add in [
        safetensors::add,
        indexes::add,
        folders::add,
        foreign::add,
        archives::add,
        records::add,
        tensors::add,
        globals::add,
        opcodes::add,
        bombs::add,
        legacy::add,
        tar::add,
    ] {
        add(&mut all);
    }
    all
}

/// Writes every case into a folder of its own below `folder`, and `manifest.json` beside them:
/// a list of objects with `name`, `path` (what to open, relative to the manifest), `verdict`
/// (`loads`, `refused` or `either`), `why`, and where it loads, `tensors`.
///
/// Returns the path of the manifest.
///
/// # Errors
/// Those of the file system.
pub fn write_all(folder: &Path) -> io::Result<PathBuf> {
    let mut manifest = Vec::new();
    for case in cases() {
        case.write(&folder.join(&case.name))?;
        manifest.push(case.described());
    }
    let path = folder.join("manifest.json");
    fs::write(&path, format!("{:#}\n", Value::from(manifest)))?;
    Ok(path)
}

impl Case {
    /// Its line of the manifest.
    fn described(&self) -> Value {
        let path = match self.file_name.as_str() {
            "." => self.name.clone(),
            file => format!("{}/{file}", self.name),
        };
        let mut line = json!({ "name": self.name, "path": path, "why": self.why });
        line["verdict"] = match &self.verdict {
            Verdict::Loads { tensors } => {
                line["tensors"] = tensors.iter().map(described_tensor).collect();
                "loads".into()
            }
            Verdict::Refused => "refused".into(),
            Verdict::Either => "either".into(),
        };
        line
    }
}

fn described_tensor(tensor: &ExpectedTensor) -> Value {
    json!({
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": tensor.shape,
        "bytes": tensor.bytes.len(),
        "sha256": tensor.sha256(),
    })
}

/// Adds cases with a common prefix, each one file of the same name.
struct Group<'a> {
    prefix: &'static str,
    file_name: &'static str,
    all: &'a mut Vec<Case>,
}

impl Group<'_> {
    fn refused(
        &mut self,
        name: &str,
        why: &str,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) {
        self.add(name, why, Verdict::Refused, make);
    }

    fn either(
        &mut self,
        name: &str,
        why: &str,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) {
        self.add(name, why, Verdict::Either, make);
    }

    fn loads(
        &mut self,
        name: &str,
        why: &str,
        tensors: Vec<ExpectedTensor>,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) {
        self.add(name, why, Verdict::Loads { tensors }, make);
    }

    fn add(
        &mut self,
        name: &str,
        why: &str,
        verdict: Verdict,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) {
        let file_name = self.file_name;
        self.all.push(Case {
            name: format!("{}-{name}", self.prefix),
            file_name: file_name.to_owned(),
            verdict,
            why: why.to_owned(),
            make: Box::new(move || {
                vec![CaseFile {
                    path: file_name.to_owned(),
                    bytes: make(),
                }]
            }),
        });
    }
}
