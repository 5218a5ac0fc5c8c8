//! The packages of this workspace, as cargo lists them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Result;
use crate::command::cargo;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package of this workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
    /// `Some` and empty where publishing is forbidden.
    publish: Option<Vec<String>>,
    /// Null where the manifest has none.
    metadata: Option<Tables>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Tables {
    xtask: Option<Table>,
}

/// `[package.metadata.xtask]` of a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    /// The sets worth checking, where features exclude or need each other.
    feature_sets: Vec<String>,
}

/// All packages.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.packages)
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        !self.publish.as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn has_library(&self) -> bool {
        let mut kinds = self.targets.iter().flat_map(|target| &target.kind);
        kinds.any(|kind| kind == "lib")
    }

    /// The feature sets that its manifest names, or none, each alone and the default.
    ///
    /// All features together are no set: features that pick one of several versions exclude each
    /// other.
    pub(crate) fn feature_sets(&self) -> Vec<String> {
        let table = self
            .metadata
            .as_ref()
            .and_then(|tables| tables.xtask.as_ref());
        if let Some(table) = table {
            return table.feature_sets.clone();
        }
        let mut sets = vec![String::new()];
        sets.extend(self.features.keys().cloned());
        sets
    }
}
