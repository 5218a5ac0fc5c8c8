//! The fuzz targets build; where cargo-fuzz is installed, they run too.

use std::fs;
use std::path::PathBuf;

use super::{Outcome, toolchain};
use crate::Result;
use crate::command::{cargo_of, output_of, root, run as run_command};

/// How long each target runs here; finding things takes minutes and more.
const SECONDS: u32 = 5;

pub(super) fn run() -> Result<Outcome> {
    let crates = crates()?;
    if crates.is_empty() {
        return Ok(Outcome::NotRun("no fuzz targets".to_owned()));
    }
    if toolchain::installed("nightly").is_none() {
        return Ok(Outcome::NotRun("no nightly toolchain".to_owned()));
    }
    if output_of("cargo", &["fuzz", "--version"]).is_none() {
        return Ok(Outcome::NotRun("no cargo-fuzz".to_owned()));
    }
    for folder in crates {
        let targets = cargo_of("nightly")
            .args(["fuzz", "list"])
            .current_dir(&folder)
            .output()?;
        for target in String::from_utf8(targets.stdout)?.lines() {
            let mut fuzz = cargo_of("nightly");
            fuzz.args(["fuzz", "run", target, "--"]);
            fuzz.arg(format!("-max_total_time={SECONDS}"));
            run_command(fuzz.current_dir(&folder))?;
        }
    }
    Ok(Outcome::Passed)
}

/// The packages that keep fuzz targets.
fn crates() -> Result<Vec<PathBuf>> {
    let mut crates = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = entry?.path();
        if folder.join("fuzz/Cargo.toml").is_file() {
            crates.push(folder);
        }
    }
    crates.sort();
    Ok(crates)
}
