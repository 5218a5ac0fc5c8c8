//! Every feature of every published package compiles on its own, and is tested somewhere.

use super::Outcome;
use crate::Result;
use crate::command::{cargo, run as run_command};
use crate::workspace;

pub(super) fn run() -> Result<Outcome> {
    let packages = workspace::packages()?;
    for package in packages.iter().filter(|package| package.is_published()) {
        for set in package.feature_sets() {
            let mut check = cargo();
            check.args(["check", "--quiet", "--no-default-features"]);
            check.arg(format!("--package={}", package.name));
            if !set.is_empty() {
                check.arg(format!("--features={set}"));
            }
            run_command(&mut check)?;
        }
    }
    // What the tests of the workspace leave out, in one build: metrics, and no PyTorch files.
    run_command(cargo().args([
        "test",
        "--quiet",
        "--package=tensorlift",
        "--no-default-features",
        "--features=metrics,uring",
        "--test=observed",
        "--test=without_torch",
    ]))?;
    Ok(Outcome::Passed)
}
