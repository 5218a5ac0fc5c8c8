//! Engines as data: `benches/engines.toml`.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use tensorlift_bench_protocol::Request;

use super::definition::{Cache, Case, FileFormat};
use crate::command::root;
use crate::programs::Built;
use crate::{Result, peers};

/// A way to load a checkpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) program: Program,
    /// What the program calls it; several settings compete, and the best one counts.
    pub(super) settings: Vec<String>,
    #[serde(default)]
    pub(super) mode: Mode,
    pub(super) formats: Vec<FileFormat>,
    /// Without it, both.
    #[serde(default)]
    cache: Option<Cache>,
    /// Whether it is what others are held against.
    #[serde(default)]
    pub(super) limit: bool,
}

/// Which program has an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Program {
    Engines,
    Peers,
    Python,
}

/// Where the bytes are in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// In memory of the process's own.
    #[default]
    Copy,
    /// In the page cache, every page mapped.
    Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    engine: Vec<Engine>,
}

impl Engine {
    pub(super) fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)?;
        let file: File =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(file.engine)
    }

    /// Whether it takes part in a case.
    pub(super) fn runs(&self, case: &Case) -> bool {
        self.formats.contains(&case.format)
            && self.cache.is_none_or(|cache| cache == case.cache)
            && !case.without.contains(&self.name)
            && (self.limit || case.engines.is_empty() || case.engines.contains(&self.name))
    }

    /// The process that answers a request.
    pub(super) fn command(&self, request: &Request, smoke: bool) -> Command {
        let mut command = match self.program {
            Program::Engines => Built::Engines.command(!smoke),
            // Built once: they take minutes in any profile.
            Program::Peers => Built::Peers.command(true),
            Program::Python => {
                let mut python = Command::new(peers::python());
                python.arg(root().join("benches/peers/engines.py"));
                python
            }
        };
        command.args(request.arguments());
        command
    }
}
