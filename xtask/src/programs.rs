//! The programs with engines: how to build and where to find them.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::command::{cargo, root, run as run_command};

/// A program of this repository that tasks start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// benches/engines.
    Engines,
    /// benches/peers.
    Peers,
    /// The command line.
    Cli,
}

impl Built {
    /// Builds it.
    pub(crate) fn build(self, release: bool) -> Result<()> {
        let mut build = cargo();
        build.args(["build", "--quiet", "--locked"]);
        match self {
            Built::Engines => build.arg("--package=tensorlift-bench-engines"),
            Built::Cli => build.arg("--package=tensorlift-cli"),
            Built::Peers => build
                .current_dir(root().join("benches/peers"))
                .env("CARGO_TARGET_DIR", peers_target()),
        };
        if release {
            build.arg("--release");
        }
        run_command(&mut build)
    }

    /// The program, built before.
    pub(crate) fn command(self, release: bool) -> Command {
        let (target, name) = match self {
            Built::Engines => (target(), "bench-engines"),
            Built::Cli => (target(), "tensorlift"),
            Built::Peers => (peers_target(), "bench-peers"),
        };
        let profile = if release { "release" } else { "debug" };
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        Command::new(target.join(profile).join(name))
    }
}

/// Where cargo builds to: it says so to nobody but by this variable.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A folder of their own: other features of the same crates would be built again and again.
fn peers_target() -> PathBuf {
    root().join("benches/peers/target")
}
