//! Lists what a checkpoint holds.

mod dtypes;
mod roles;
mod summary;
mod tree;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tensorlift::{Checkpoint, Dtype, Entry, Result, Tensor};

use crate::batches::{for_each_batch, has_bytes, identity, row_major};
use crate::failure::Failure;
use crate::state;
use crate::table::{Table, printable};
use crate::target::{Target, root_hint};
pub(crate) use summary::Summary;

/// Characters of a line of metadata that people see.
const SHOWN_METADATA: usize = 200;

#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object for each tensor, a line each
    #[arg(long)]
    pub(crate) json: bool,
    /// Load the tensors and print the SHA-256 of their row-major little-endian bytes
    #[arg(long)]
    hash: bool,
    /// Print what a PyTorch file holds beside tensors: epoch, optimizer settings and so on
    #[arg(long, conflicts_with = "hash")]
    state: bool,
    /// Print modules in place of tensors, with what is in each
    #[arg(long, conflicts_with_all = ["json", "hash", "state"])]
    tree: bool,
    /// How many parts of names the tree shows
    #[arg(long, value_name = "NUMBER", requires = "tree")]
    depth: Option<usize>,
    /// Print one line for scripts: numbers of tensors, elements and bytes, dtypes, files; with
    /// --json an object that has the metadata, the companions and what is left out too
    #[arg(long, conflicts_with_all = ["hash", "state", "tree"])]
    summary: bool,
}

/// A tensor for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Line<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: &'a [usize],
    bytes: u64,
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    /// What it is in a quantized layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

impl Inspect {
    pub(crate) fn run(&self, out: &mut impl Write) -> std::result::Result<(), Failure> {
        let checkpoint = self.target.open()?;
        if self.state {
            let value = checkpoint.state_value()?;
            match self.json {
                true => {
                    serde_json::to_writer(&mut *out, &state::Plain(&value))?;
                    writeln!(out)?;
                }
                false => state::write_readable(out, &value)?,
            }
            return Ok(());
        }
        if self.summary {
            return Ok(Summary::of(&checkpoint).write(self.json, out)?);
        }
        if self.tree {
            let entries = checkpoint.catalog().entries();
            tree::write_tree(out, entries, self.depth)?;
            return Ok(write_around(out, &checkpoint)?);
        }
        let hashes = match self.hash && !checkpoint.catalog().is_empty() {
            true => hash(&checkpoint)?,
            false => HashMap::new(),
        };
        let files: Vec<String> = checkpoint
            .files()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let lines = checkpoint.catalog().entries().iter().map(|entry| Line {
            name: entry.name(),
            dtype: entry.dtype(),
            shape: entry.shape(),
            bytes: entry.byte_len(),
            file: &files[entry.extent().shard.index()],
            sha256: hashes.get(entry.name()).map(AsRef::as_ref),
            role: roles::role(checkpoint.catalog(), entry),
        });
        let hint = root_hint(&checkpoint);
        if self.json {
            for line in lines {
                serde_json::to_writer(&mut *out, &line)?;
                writeln!(out)?;
            }
            if let Some(hint) = hint {
                eprintln!("note: {hint}");
            }
            return Ok(());
        }
        write_table(out, lines.collect(), self.hash)?;
        dtypes::write_histogram(out, checkpoint.catalog().entries())?;
        Ok(write_around(out, &checkpoint)?)
    }
}

/// What is there beside the tensors.
fn write_around(out: &mut impl Write, checkpoint: &Checkpoint) -> std::io::Result<()> {
    let metadata = checkpoint.catalog().metadata();
    if !metadata.is_empty() {
        writeln!(out, "\nmetadata")?;
    }
    for (key, value) in metadata {
        let shown: String = value.chars().take(SHOWN_METADATA).collect();
        let cut = if shown.len() < value.len() { "…" } else { "" };
        let (key, shown) = (printable(key), printable(&shown));
        writeln!(out, "  {key}: {shown}{cut}")?;
    }
    let companions: Vec<String> = checkpoint.companions().paths().map(file_name).collect();
    if !companions.is_empty() {
        writeln!(out, "\nbeside the weights: {}", companions.join(", "))?;
    }
    if checkpoint.require_tensors().is_err() {
        writeln!(out, "\nno tensors: --state shows what the file holds")?;
    }
    match root_hint(checkpoint) {
        Some(hint) => writeln!(out, "\n{hint}"),
        None => Ok(()),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    printable(&name.to_string_lossy())
}

/// The hash of every tensor that has bytes, by name. Equal views are hashed once.
fn hash(checkpoint: &Checkpoint) -> Result<HashMap<&str, Rc<str>>> {
    let catalog = checkpoint.catalog();
    let entries = catalog.entries().iter();
    let entries = entries.filter(|entry| has_bytes(checkpoint, entry));
    let mut names: HashMap<_, Vec<&str>> = HashMap::new();
    let mut views: Vec<&Entry> = Vec::new();
    for entry in entries {
        let names = names.entry(identity(entry)).or_default();
        if names.is_empty() {
            views.push(entry);
        }
        names.push(entry.name());
    }
    let mut hashes = HashMap::new();
    // A pool for this call; if the system refuses threads, the caller hashes alone.
    let pool = rayon::ThreadPoolBuilder::new().build().ok();
    for_each_batch(
        checkpoint,
        &views,
        |loader| loader,
        |batch, loaded| {
            let first = batch.start;
            let hash = |position: usize| sha256(loaded.tensor(views[position].name())?);
            let batch: Vec<String> = match &pool {
                Some(pool) => {
                    pool.install(|| batch.into_par_iter().map(hash).collect::<Result<_>>())?
                }
                None => batch.map(hash).collect::<Result<_>>()?,
            };
            for (view, hex) in views[first..].iter().zip(batch) {
                let hex: Rc<str> = hex.into();
                let names = &names[&identity(view)];
                hashes.extend(names.iter().map(|&name| (name, Rc::clone(&hex))));
            }
            Ok(())
        },
    )?;
    Ok(hashes)
}

/// The hash of a tensor's row-major bytes, in hexadecimal.
fn sha256(tensor: &Tensor) -> Result<String> {
    let mut digest = Sha256::new();
    row_major(tensor, |piece| {
        digest.update(piece);
        Ok(())
    })?;
    let digest = digest.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_table(out: &mut impl Write, lines: Vec<Line<'_>>, hash: bool) -> std::io::Result<()> {
    let mut heads = vec!["name", "dtype", "shape", "bytes", "file"];
    let has_roles = lines.iter().any(|line| line.role.is_some());
    if has_roles {
        heads.push("role");
    }
    if hash {
        heads.push("sha256");
    }
    let mut table = Table::new(&heads, &[3]);
    for line in lines {
        let mut row = vec![
            printable(line.name),
            line.dtype.to_string(),
            format!("{:?}", line.shape),
            line.bytes.to_string(),
            file_name(Path::new(line.file)),
        ];
        if has_roles {
            row.push(line.role.unwrap_or_default().to_owned());
        }
        if hash {
            row.push(line.sha256.unwrap_or("no bytes").to_owned());
        }
        table.row(row);
    }
    table.write(out)
}
