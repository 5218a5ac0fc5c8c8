//! What files must be, as the command line says it.

use std::path::{Path, PathBuf};

use clap::Args;
use tensorlift::trust::{Expected, SignedModel};
use tensorlift::{Checkpoint, Error, ErrorKind, Result};

/// Endings of files that hold weights.
const WEIGHTS: [&str; 5] = ["safetensors", "bin", "pt", "pth", "ckpt"];
/// Lists that are looked for in a folder.
const LISTS: [&str; 2] = [MANIFEST, "SHA256SUMS"];
/// The name under which a manifest is found.
pub(crate) const MANIFEST: &str = "tensorlift-manifest.json";

/// Where the expected hashes come from.
#[derive(Args)]
pub(crate) struct TrustArgs {
    /// Compare with the hashes of this manifest, or of this list of SHA-256 sums (as sha256sum
    /// writes it); names are relative to the folder of the checkpoint
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    manifest: Option<PathBuf>,
    /// Compare with the hashes of this signature of the OpenSSF's Model Signing
    #[arg(long, value_name = "FILE", requires = "key")]
    signature: Option<PathBuf>,
    /// The public key that the signature was made with, as PEM
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
}

/// What a folder or a file of it must be.
pub(crate) struct Claim {
    pub(crate) expected: Expected,
    /// Files that are there, and that must be listed.
    pub(crate) present: Vec<PathBuf>,
}

impl TrustArgs {
    /// What was asked for of a checkpoint that is loaded; without an option, nothing.
    pub(crate) fn of_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Option<Expected>> {
        // What else is in the folder does not matter here.
        let folder = checkpoint.folder();
        match &self.manifest {
            Some(list) => Expected::read(list, &folder).map(Some),
            None => Ok(self.asked_for(&folder)?.map(|claim| claim.expected)),
        }
    }

    /// What must be true of a folder, or of one file in it: what was asked for, or else what lists
    /// in the folder or the names of blobs say.
    pub(crate) fn of_files(&self, folder: &Path, file: Option<&Path>) -> Result<Claim> {
        let mut claim = match self.asked_for(folder)? {
            Some(claim) => claim,
            None => found(folder)?,
        };
        if let Some(file) = file {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            let is_file = |path: &Path| path == file;
            claim.expected = claim.expected.only(is_file);
            claim.present = vec![file.clone()];
        }
        if claim.expected.is_empty() && claim.present.is_empty() {
            return Err(unknown(folder));
        }
        Ok(claim)
    }

    fn asked_for(&self, folder: &Path) -> Result<Option<Claim>> {
        if let (Some(signature), Some(key)) = (&self.signature, &self.key) {
            let SignedModel {
                expected, present, ..
            } = SignedModel::read(signature, key, folder)?;
            return Ok(Some(Claim { expected, present }));
        }
        self.manifest
            .as_deref()
            .map(|list| listed(list, folder))
            .transpose()
    }
}

/// What a list says of a folder.
fn listed(list: &Path, folder: &Path) -> Result<Claim> {
    let is_weights = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| WEIGHTS.contains(&ending))
    };
    let mut present = files_below(folder)?;
    present.retain(is_weights);
    let expected = Expected::read(list, folder)?;
    Ok(Claim { expected, present })
}

/// What a folder says of itself.
fn found(folder: &Path) -> Result<Claim> {
    let files = files_below(folder)?;
    let expected = Expected::from_hub(files.iter().map(PathBuf::as_path));
    if !expected.is_empty() {
        let present = Vec::new();
        return Ok(Claim { expected, present });
    }
    let lists = LISTS.iter().map(|name| folder.join(name));
    match lists.into_iter().find(|list| list.is_file()) {
        Some(list) => listed(&list, folder),
        None => Err(unknown(folder)),
    }
}

fn unknown(folder: &Path) -> Error {
    let found = "nothing says what the files must be: there is no manifest, no SHA256SUMS, and no \
                 blob of the Hugging Face cache";
    Error::new(ErrorKind::NotFound, found)
        .with_path(folder)
        .with_remedy(
            "write a manifest of a copy that you trust (tensorlift manifest COPY --out FILE) and \
             give it with --manifest, or give --signature and --key",
        )
}

/// All files in a folder and below, without hidden ones, by name.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |error| Error::new(ErrorKind::Storage, error).with_path(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // A link to a folder may lead back here.
        match path.is_dir() {
            true if path.is_symlink() => {}
            true => files.extend(files_below(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}
