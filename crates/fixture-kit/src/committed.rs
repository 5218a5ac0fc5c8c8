//! The committed checkpoints, which PyTorch and Python's safetensors wrote.
//!
//! `fixtures/README.md` says how they were made and what the fields mean.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A committed checkpoint and what a reader must find in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The path below the folder of fixtures, with `/` between its parts.
    pub name: String,
    /// The file, or the folder of shards.
    pub path: PathBuf,
    /// What a reader must be able to do beyond reading safetensors and zip archives of state
    /// dicts; empty for those.
    pub needs: Vec<String>,
    /// Whether readers may name the tensors as they like.
    pub any_names: bool,
    /// Whether readers may list the tensors in any order.
    pub any_order: bool,
    /// Some of the values other than tensors, by their path.
    pub values: BTreeMap<String, Value>,
    /// The metadata of the file, where the test is about it.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of the file; shard after shard.
    pub tensors: Vec<CommittedTensor>,
}

/// A tensor of a committed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTensor {
    /// The full name.
    pub name: String,
    /// The dtype's name in the style of safetensors.
    pub dtype: String,
    /// The size of each dimension, in elements.
    pub shape: Vec<usize>,
    /// How many bytes there are.
    pub bytes: u64,
    /// The SHA-256 of the row-major little-endian bytes in hexadecimal, or `None` for a tensor
    /// without bytes.
    pub sha256: Option<String>,
    /// The shard that holds it, in a folder of several.
    pub file: Option<String>,
    /// PyTorch's flag.
    pub requires_grad: bool,
}

/// The folder of fixtures in this repository.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// All committed checkpoints, by name.
///
/// # Panics
/// If `expected.json` is missing or broken.
#[must_use]
pub fn all() -> Vec<Committed> {
    let folder = folder();
    let path = folder.join("expected.json");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let listing: BTreeMap<String, Value> = serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut all = Vec::new();
    for (name, value) in listing {
        all.push(Committed {
            path: folder.join(&name),
            needs: texts(&value["needs"]),
            any_names: value["names"] == "any",
            any_order: value["order"] == "any",
            values: members(&value["values"]),
            metadata: metadata(&value["metadata"]),
            tensors: list(&value["tensors"]).iter().map(tensor).collect(),
            name,
        });
    }
    all
}

/// The committed checkpoint of this name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn one(name: &str) -> Committed {
    let found = all().into_iter().find(|committed| committed.name == name);
    found.unwrap_or_else(|| panic!("no committed checkpoint {name:?}"))
}

fn tensor(value: &Value) -> CommittedTensor {
    let sizes = list(&value["shape"])
        .iter()
        .map(|size| number(size) as usize);
    CommittedTensor {
        name: text(&value["name"]),
        dtype: text(&value["dtype"]),
        shape: sizes.collect(),
        bytes: number(&value["bytes"]),
        sha256: value["sha256"].as_str().map(str::to_owned),
        file: value["file"].as_str().map(str::to_owned),
        requires_grad: value["requires_grad"] == true,
    }
}

fn metadata(value: &Value) -> BTreeMap<String, String> {
    let lines = members(value).into_iter();
    lines.map(|(key, line)| (key, text(&line))).collect()
}

fn members(value: &Value) -> BTreeMap<String, Value> {
    let members = value.as_object().into_iter().flatten();
    members
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| panic!("expected.json: {value} is not a string"))
}

fn number(value: &Value) -> u64 {
    let number = value.as_u64();
    number.unwrap_or_else(|| panic!("expected.json: {value} is not a number"))
}
