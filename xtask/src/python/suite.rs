//! The suites of `cargo xtask python-tests`: what each needs and how it is run.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tensorlift_fixture_kit::hostile;

use super::environment::{Environment, PACKAGE};
use crate::command::{root, run as run_command};
use crate::flags::Suite;
use crate::programs::Built;
use crate::{Result, real_files};

impl Suite {
    /// What the suite needs beside numpy and safetensors.
    pub(super) const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Core => &["mypy"],
            Self::Hostile => &[],
            Self::Torch | Self::Vllm | Self::Large | Self::RealFiles => &["torch"],
            Self::Safetensors => &["torch", "fsspec"],
            Self::Transformers => &[
                "torch",
                "transformers",
                "accelerate",
                "diffusers",
                "sentence-transformers",
            ],
            Self::Types => &["mypy", "torch"],
        }
    }

    /// Runs it over the package in `site`.
    pub(super) fn run(self, environment: &Environment, site: &Path) -> Result<()> {
        let tests = root().join(PACKAGE).join("tests");
        let mut pytest = environment.command();
        pytest.args(["-m", "pytest", "--quiet"]);
        pytest.env("PYTHONPATH", site).env("HF_HUB_OFFLINE", "1");
        match self {
            Self::Core => {
                pytest.args(["-m", "not torch and not transformers and not large"]);
                pytest.arg(&tests).arg("--ignore");
                pytest.arg(tests.join("safetensors_suite"));
                run_command(&mut pytest)?;
                return types(environment, site, &WITHOUT_TORCH);
            }
            Self::Torch => {
                pytest.args(["-m", "torch and not large"]).arg(&tests);
                pytest.arg("--ignore").arg(tests.join("safetensors_suite"));
            }
            Self::Transformers => {
                pytest.args(["-m", "transformers"]).arg(&tests);
                pytest.arg("--ignore").arg(tests.join("safetensors_suite"));
                pytest.env("TENSORLIFT_MINILM", real_files::minilm()?);
            }
            Self::Safetensors => {
                let folder = root().join("target/safetensors-suite");
                fetch(
                    environment,
                    &tests.join("safetensors_suite/fetch.py"),
                    &folder,
                )?;
                pytest.arg("tests").current_dir(folder.join("run"));
            }
            Self::Vllm => {
                let folder = root().join("target/vllm");
                fetch(environment, &tests.join("vllm_suite/fetch.py"), &folder)?;
                pytest.arg(tests.join("vllm_suite"));
                pytest.env("TENSORLIFT_VLLM", folder);
            }
            Self::Large => {
                pytest.args(["-m", "large"]).arg(&tests);
                pytest.arg("--ignore").arg(tests.join("safetensors_suite"));
            }
            Self::Hostile => {
                Built::Cli.build(false)?;
                pytest.arg(tests.join("test_hostile.py"));
                pytest.env("TENSORLIFT_CLI", Built::Cli.command(false).get_program());
                pytest.env("TENSORLIFT_HOSTILE", hostile_files()?);
            }
            Self::RealFiles => {
                pytest.arg(tests.join("test_real_files.py"));
                pytest.env("TENSORLIFT_REAL_FILES", real_files::folder(None)?);
            }
            Self::Types => return types(environment, site, &[]),
        }
        run_command(&mut pytest)
    }
}

/// What mypy cannot ask where torch is not installed.
const WITHOUT_TORCH: [&str; 4] = [
    "--ignore-missing-imports",
    "--allow-subclassing-any",
    "--no-warn-unused-ignores",
    "--no-warn-return-any",
];

/// Checks the package's types, and that the stub is what the native part has.
fn types(environment: &Environment, site: &Path, flags: &[&str]) -> Result<()> {
    let mut mypy = environment.command();
    mypy.args(["-m", "mypy"]).args(flags);
    run_command(mypy.current_dir(root().join(PACKAGE)))?;
    let mut stub = environment.command();
    stub.args(["-m", "mypy.stubtest", "tensorlift._native"]);
    stub.arg("--ignore-disjoint-bases").env("PYTHONPATH", site);
    run_command(&mut stub)
}

fn fetch(environment: &Environment, script: &Path, folder: &Path) -> Result<()> {
    let mut fetch: Command = environment.command();
    run_command(fetch.arg(script).arg(folder))
}

/// Writes the hostile kit, and a list of its files: a path in each line.
fn hostile_files() -> Result<PathBuf> {
    let data = root().join("target/python-hostile");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let mut list = String::new();
    for case in hostile::cases() {
        let path = case.write(&data.join(&case.name))?;
        writeln!(list, "{}", path.display())?;
    }
    let file = data.join("files.txt");
    fs::write(&file, list)?;
    Ok(file)
}
