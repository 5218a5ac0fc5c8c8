//! `cargo xtask wheel` and `cargo xtask python-tests`: the Python package, built and tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{from_root, output_of, root, run as run_command};
use crate::{Result, flags};

/// Where the package is.
const PACKAGE: &str = "crates/tensorlift-python";
/// The oldest Python that the package is for: its minor version.
const OLDEST_MINOR: u32 = 11;
/// What building and the tests of numpy and safetensors need.
const CORE: [&str; 5] = [
    "maturin",
    "pytest",
    "numpy",
    "ml_dtypes",
    "safetensors==0.8.0",
];

pub(crate) fn wheel(flags: &flags::Wheel) -> Result<()> {
    let environment = Environment::new(None)?;
    let wheel = environment.build(&from_root(&flags.out), !flags.dev)?;
    println!("{}", wheel.display());
    Ok(())
}

pub(crate) fn tests(flags: &flags::PythonTests) -> Result<()> {
    if let Err(why) = newer_python() {
        println!("not run: {why}");
        return Ok(());
    }
    let environment = match Environment::new(flags.python.as_deref()) {
        // A machine without a way to the package index can still check the rest.
        Err(error) if flags.suite == flags::Suite::Core => {
            println!("not run: {error}");
            return Ok(());
        }
        environment => environment?,
    };
    if flags.python.is_none() {
        environment.install(flags.suite.packages())?;
    }
    let wheel = environment.build(&root().join("target/wheels"), flags.release)?;
    let site = environment.unpack(&wheel)?;
    environment.run_suite(flags.suite, &site)
}

/// Python 3.11 or newer, or why there is none.
fn newer_python() -> std::result::Result<(), String> {
    let version = output_of(
        "python3",
        &["-c", "import sys; print(sys.version_info.minor)"],
    );
    let version = version.ok_or("no python3")?;
    match version.trim().parse::<u32>() {
        Ok(minor) if minor >= OLDEST_MINOR => Ok(()),
        _ => Err(format!(
            "python3 is 3.{}, not 3.{OLDEST_MINOR}",
            version.trim()
        )),
    }
}

/// An interpreter with the packages that are needed.
struct Environment {
    python: PathBuf,
}

impl Environment {
    /// The caller's interpreter, or one of our own under target/.
    fn new(python: Option<&Path>) -> Result<Self> {
        if let Some(python) = python {
            let python = from_root(python);
            return Ok(Self { python });
        }
        let folder = root().join("target/python");
        let python = folder.join("bin/python");
        let environment = Self { python };
        if !environment.python.exists() {
            run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        }
        environment.install(&CORE)?;
        Ok(environment)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.current_dir(root());
        command
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        let mut install = self.command();
        install.args(["-m", "pip", "install", "--quiet"]);
        run_command(install.args(packages))
    }

    /// Builds the wheel, and gives its path.
    fn build(&self, out: &Path, optimised: bool) -> Result<PathBuf> {
        let mut build = self.command();
        build.args(["-m", "maturin", "build", "--quiet", "--manifest-path"]);
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

    /// Unpacks a wheel into a folder of its own: an interpreter that others use stays as it is.
    fn unpack(&self, wheel: &Path) -> Result<PathBuf> {
        let site = root().join("target/python-site");
        if site.exists() {
            fs::remove_dir_all(&site)?;
        }
        let mut unpack = self.command();
        unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&site);
        run_command(&mut unpack)?;
        Ok(site)
    }

    fn run_suite(&self, suite: flags::Suite, site: &Path) -> Result<()> {
        let tests = root().join(PACKAGE).join("tests");
        let mut pytest = self.command();
        pytest.args(["-m", "pytest", "--quiet"]);
        pytest.env("PYTHONPATH", site).env("HF_HUB_OFFLINE", "1");
        match suite {
            flags::Suite::Core => {
                pytest
                    .args(["-m", "not torch and not transformers"])
                    .arg(&tests);
                pytest.arg("--ignore").arg(tests.join("safetensors_suite"));
            }
            flags::Suite::Torch => {
                pytest.args(["-m", "torch"]).arg(&tests);
                pytest.arg("--ignore").arg(tests.join("safetensors_suite"));
            }
            flags::Suite::Transformers => {
                pytest.arg(tests.join("test_transformers.py"));
            }
            flags::Suite::Safetensors => {
                let folder = root().join("target/safetensors-suite");
                let mut fetch = self.command();
                fetch.arg(tests.join("safetensors_suite/fetch.py"));
                run_command(fetch.arg(&folder))?;
                pytest.arg("tests").current_dir(folder.join("run"));
            }
            flags::Suite::Vllm => {
                let folder = root().join("target/vllm");
                let mut fetch = self.command();
                fetch.arg(tests.join("vllm_suite/fetch.py"));
                run_command(fetch.arg(&folder))?;
                pytest.arg(tests.join("vllm_suite"));
                pytest.env("TENSORLIFT_VLLM", folder);
            }
        }
        run_command(&mut pytest)
    }
}

impl flags::Suite {
    /// What the suite needs beside [`CORE`].
    const fn packages(self) -> &'static [&'static str] {
        match self {
            flags::Suite::Core => &[],
            flags::Suite::Torch | flags::Suite::Vllm => &["torch"],
            flags::Suite::Safetensors => &["torch", "fsspec"],
            flags::Suite::Transformers => &["torch", "transformers", "accelerate"],
        }
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
