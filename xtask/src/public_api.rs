//! `cargo xtask public-api`: the public items of each published library, as committed lists.
//!
//! `cargo public-api` makes the lists from rustdoc's JSON, which needs a nightly toolchain.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::check::toolchain;
use crate::command::{output_of, root};
use crate::workspace::{self, Package};

/// Where the lists are, one file for each library.
const FOLDER: &str = "xtask/public-api";

/// Why the lists cannot be made here, if they cannot.
pub(crate) fn unavailable() -> Option<&'static str> {
    if toolchain::installed("nightly").is_none() {
        return Some("no nightly toolchain");
    }
    match output_of("cargo", &["public-api", "--version"]) {
        None => Some("no cargo-public-api: `cargo install cargo-public-api`"),
        Some(_) => None,
    }
}

pub(crate) fn run(bless: bool) -> Result<()> {
    if let Some(why) = unavailable() {
        return Err(why.into());
    }
    let mut changed = Vec::new();
    for package in workspace::packages()? {
        if !package.is_published() || !package.has_library() {
            continue;
        }
        let (list, file) = (list(&package)?, file(&package));
        if bless {
            fs::create_dir_all(root().join(FOLDER))?;
            fs::write(&file, list)?;
        } else if fs::read_to_string(&file).unwrap_or_default() != list {
            changed.push(package.name);
        }
    }
    match changed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the public items of {} differ from {FOLDER}: \
             `cargo xtask public-api --bless` writes the lists again",
            changed.join(", ")
        )
        .into()),
    }
}

fn list(package: &Package) -> Result<String> {
    let arguments = ["public-api", "--simplified", "--simplified", "--package"];
    let arguments = [&arguments[..], &[&package.name]].concat();
    output_of("cargo", &arguments)
        .ok_or_else(|| format!("cargo public-api fails on {}", package.name).into())
}

fn file(package: &Package) -> PathBuf {
    root().join(FOLDER).join(format!("{}.txt", package.name))
}
