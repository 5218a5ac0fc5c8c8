//! The fuzz targets build with a nightly toolchain, and survive a few seconds each.
//!
//! `cargo fuzz` is what finds things, and this is what it does: but in one folder for all crates,
//! so that nothing is built twice, and without asking anybody to install it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::{Outcome, toolchain};
use crate::Result;
use crate::command::{cargo, cargo_of, root, run as run_command};

/// How long each target runs here; finding things takes minutes and more.
const SECONDS: u32 = 5;
/// What libFuzzer follows the code by, and what finds bad accesses.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Zsanitizer=address --cfg=fuzzing";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

pub(super) fn run() -> Result<Outcome> {
    let folders = folders()?;
    if folders.is_empty() {
        return Ok(Outcome::NotRun("no fuzz targets".to_owned()));
    }
    let Some(toolchain) = toolchain::installed("nightly") else {
        return Ok(Outcome::NotRun("no nightly toolchain".to_owned()));
    };
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::NotRun("written for Linux".to_owned()));
    }
    let host = toolchain::host(&toolchain).ok_or("rustc does not say what it builds for")?;
    let built = root().join("target/fuzz");
    for folder in folders {
        let mut build = cargo_of(&toolchain);
        build.args(["build", "--quiet", "--release", "--bins", "--target", &host]);
        // For a few seconds of running, more would not be worth its building.
        build.arg("--config=profile.release.opt-level=1");
        build.arg("--target-dir").arg(&built);
        build.arg("--manifest-path").arg(folder.join("Cargo.toml"));
        run_command(build.env("RUSTFLAGS", FLAGS))?;
        for target in targets(&folder)? {
            let program = built.join(&host).join("release").join(&target);
            let mut fuzz = Command::new(program);
            fuzz.arg(format!("-max_total_time={SECONDS}"));
            // The same inputs each time, and patience: a change shall not fail by chance.
            fuzz.args([
                "-seed=1",
                "-timeout=60",
                "-rss_limit_mb=4096",
                "-verbosity=0",
            ]);
            fuzz.arg(corpus(&folder, &built, &target)?);
            run_command(fuzz.current_dir(&built))?;
        }
    }
    Ok(Outcome::Passed)
}

/// Compiles the targets without a nightly toolchain, and runs none.
pub(super) fn check() -> Result<Outcome> {
    for folder in folders()? {
        let mut check = cargo();
        check.args(["check", "--quiet", "--bins", "--manifest-path"]);
        check.arg(folder.join("Cargo.toml"));
        // That of the workspace, which has most of what they depend on.
        check.arg("--target-dir").arg(root().join("target"));
        run_command(&mut check)?;
    }
    Ok(Outcome::Passed)
}

/// The packages of fuzz targets.
fn folders() -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = entry?.path().join("fuzz");
        if folder.join("Cargo.toml").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The names of a package's programs.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut metadata = cargo();
    metadata.args([
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--manifest-path",
    ]);
    let output = metadata.arg(folder.join("Cargo.toml")).output()?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let targets = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets);
    let programs = targets.filter(|target| target.kind.iter().any(|kind| kind == "bin"));
    Ok(programs.map(|target| target.name).collect())
}

/// Where a target begins, and keeps what it finds: the crate's own corpus, or an empty one.
fn corpus(folder: &Path, built: &Path, target: &str) -> Result<PathBuf> {
    let own = folder.join("corpus").join(target);
    if own.is_dir() {
        return Ok(own);
    }
    let package = folder
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let empty = built.join("corpus").join(package).join(target);
    fs::create_dir_all(&empty)?;
    Ok(empty)
}
