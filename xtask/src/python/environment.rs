//! A Python with what tasks need, and the package built for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{from_root, root, run as run_command};

/// Where the package is.
pub(super) const PACKAGE: &str = "crates/tensorlift-python";
/// Where the package is unpacked, for `PYTHONPATH`.
pub(crate) const SITE: &str = "target/python-site";
/// What building and the tests of numpy and safetensors need.
const CORE: [&str; 5] = [
    "maturin",
    "pytest",
    "numpy",
    "ml_dtypes",
    "safetensors==0.8.0",
];

/// An interpreter with the packages that are needed.
pub(super) struct Environment {
    python: PathBuf,
    /// Whether it is the caller's, who installs what is needed.
    is_given: bool,
}

impl Environment {
    /// The caller's interpreter, or one of our own under target/.
    pub(super) fn new(python: Option<&Path>) -> Result<Self> {
        if let Some(python) = python {
            return Ok(Self {
                python: from_root(python),
                is_given: true,
            });
        }
        let folder = root().join("target/python");
        let environment = Self {
            python: folder.join("bin/python"),
            is_given: false,
        };
        if !environment.python.exists() {
            run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        }
        environment.install(&CORE)?;
        Ok(environment)
    }

    /// The interpreter, in the top folder.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.current_dir(root());
        command
    }

    /// Installs packages, unless the interpreter is the caller's.
    pub(super) fn install(&self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() || self.is_given {
            return Ok(());
        }
        let mut install = self.command();
        install.args(["-m", "pip", "install", "--quiet"]);
        run_command(install.args(packages))
    }

    /// Builds the wheel, and gives its path.
    pub(super) fn build(&self, out: &Path, optimised: bool) -> Result<PathBuf> {
        let mut build = self.command();
        build.args(["-m", "maturin", "build", "--quiet", "--locked"]);
        build.arg("--manifest-path");
        build.arg(root().join(PACKAGE).join("Cargo.toml"));
        build.arg("--out").arg(out);
        // What the workspace has built is not built twice.
        build.env("CARGO_TARGET_DIR", root().join("target"));
        if optimised {
            build.arg("--release");
        }
        run_command(&mut build)?;
        newest(out, "whl")?.ok_or_else(|| "maturin made no wheel".into())
    }

    /// Builds the package into a folder of its own, for `PYTHONPATH`: an interpreter that others
    /// use stays as it is.
    pub(super) fn site(&self, optimised: bool) -> Result<PathBuf> {
        let wheel = self.build(&root().join("target/wheels"), optimised)?;
        let site = root().join(SITE);
        if site.exists() {
            fs::remove_dir_all(&site)?;
        }
        let mut unpack = self.command();
        unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&site);
        run_command(&mut unpack)?;
        Ok(site)
    }
}

/// The file of this extension that was written last.
fn newest(folder: &Path, extension: &str) -> Result<Option<PathBuf>> {
    let mut found = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|other| other == extension) {
            let written = fs::metadata(&path)?.modified()?;
            if found.as_ref().is_none_or(|(other, _)| *other < written) {
                found = Some((written, path));
            }
        }
    }
    Ok(found.map(|(_, path)| path))
}
