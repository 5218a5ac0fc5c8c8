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
    // What the tests of the workspace leave out.
    let tests: [&[&str]; 2] = [
        &["--features=metrics", "--test=observed"],
        &[
            "--no-default-features",
            "--features=uring",
            "--test=without_torch",
        ],
    ];
    for test in tests {
        let mut run = cargo();
        run.args(["test", "--quiet", "--package=tensorlift"]);
        run_command(run.args(test))?;
    }
    Ok(Outcome::Passed)
}
