//! Every feature of every published package compiles on its own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Outcome;
use crate::Result;
use crate::command::{cargo, run as run_command};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    /// `Some` and empty where publishing is forbidden.
    publish: Option<Vec<String>>,
    features: BTreeMap<String, Vec<String>>,
    /// Null where the manifest has none.
    metadata: Option<Tables>,
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

pub(super) fn run() -> Result<Outcome> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    for package in metadata.packages {
        if package.publish.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let table = package.metadata.and_then(|tables| tables.xtask);
        let named = table.map(|table| table.feature_sets);
        for set in named.unwrap_or_else(|| sets(&package.features)) {
            let package = format!("--package={}", package.name);
            let mut check = cargo();
            check.args(["check", "--quiet", &package, "--no-default-features"]);
            if !set.is_empty() {
                check.arg(format!("--features={set}"));
            }
            run_command(&mut check)?;
        }
    }
    Ok(Outcome::Passed)
}

/// None, each alone, and the default.
///
/// All together is no set: features that pick one of several versions exclude each other.
fn sets(features: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut sets = vec![String::new()];
    sets.extend(features.keys().cloned());
    sets
}
