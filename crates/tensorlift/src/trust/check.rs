//! Hashing files and comparing them with what is expected of them.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tensorlift_loader::{
    Control, Digest, HashAlgorithm, HashRange, LoadOptions, Shard, hash_ranges,
};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Error, ErrorKind, Extent, Result, ShardId};

use super::{Expected, ExpectedFile};
use crate::open::open_all;

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// The hash function, where something was hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<HashAlgorithm>,
    /// What was found.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "comparison")]
#[non_exhaustive]
pub enum Comparison {
    /// It is what is expected.
    Right {
        /// Its length in bytes.
        bytes: u64,
    },
    /// Its hash is another one.
    Wrong {
        /// What the hash must be.
        expected: Digest,
        /// What it is.
        found: Digest,
        /// The tensors whose bytes differ, where that is known.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tensors: Vec<String>,
    },
    /// It is longer or shorter.
    WrongLength {
        /// How long it must be, in bytes.
        expected: u64,
        /// How long it is, in bytes.
        found: u64,
    },
    /// It is not there, or cannot be read.
    Missing {
        /// What the system says.
        why: String,
    },
    /// It is there, and nothing is known of it, though everything should be.
    Unexpected,
    /// It cannot be checked.
    Unverifiable {
        /// Why not.
        why: String,
    },
}

impl Comparison {
    /// Whether the file is what is expected.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        matches!(self, Comparison::Right { .. })
    }
}

/// Hashes all files of which something is expected, and compares them; `present` are files that
/// must be among them if the list is [complete](Expected::complete).
///
/// Files are read as loads read them: in parallel, past the page cache where they are not in it.
/// The result is in the order of the paths.
///
/// # Errors
/// If a file that can be opened cannot be read; a file that differs is no error.
pub fn check(
    expected: &Expected,
    present: &[PathBuf],
    options: &LoadOptions,
    control: &Control,
) -> Result<Vec<CheckedFile>> {
    let mut checked = Vec::new();
    let mut open: Vec<(Shard, &ExpectedFile)> = Vec::new();
    for (path, file) in &expected.files {
        match opened(path, file) {
            Ok(shard) => open.push((shard, file)),
            Err(comparison) => checked.push(CheckedFile {
                path: path.clone(),
                algorithm: None,
                comparison,
            }),
        }
    }
    if expected.is_complete {
        let unknown = present.iter().filter(|path| expected.of(path).is_none());
        checked.extend(unknown.map(|path| CheckedFile {
            path: super::absolute(path),
            algorithm: None,
            comparison: Comparison::Unexpected,
        }));
    }

    let (mut ranges, mut counts) = (Vec::new(), Vec::new());
    for (index, (shard, file)) in open.iter().enumerate() {
        let before = ranges.len();
        let id = ShardId(index as u32);
        // Without what is expected: all are compared, not only up to the first that differs.
        let of_file = file.ranges(id, shard.storage().len());
        ranges.extend(of_file.map(|range| HashRange::new(range.extent, range.algorithm)));
        counts.push(ranges.len() - before);
    }
    let shards: Vec<Shard> = open.iter().map(|(shard, _)| shard.clone()).collect();
    let hashed = hash_ranges(&shards, ranges, options, control)?;
    let digests = hashed.counts.hashed.unwrap_or_default().digests;
    let mut digests = &digests[..];
    for ((shard, file), count) in open.iter().zip(counts) {
        let (found, rest) = digests.split_at(count);
        digests = rest;
        let differing = file.hashes.iter().zip(found);
        let mut differing = differing.filter(|((_, expected), found)| expected != *found);
        let comparison = match differing.next() {
            None => Comparison::Right {
                bytes: shard.storage().len(),
            },
            Some(((_, expected), found)) => Comparison::Wrong {
                expected: *expected,
                found: *found,
                tensors: differing_tensors(shard, file, options, control)?,
            },
        };
        checked.push(CheckedFile {
            path: shard.path().to_owned(),
            algorithm: file.hashes.first().map(|(_, digest)| digest.algorithm()),
            comparison,
        });
    }
    checked.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(checked)
}

/// The file, if it can be hashed.
fn opened(path: &Path, file: &ExpectedFile) -> std::result::Result<Shard, Comparison> {
    if let Some(why) = &file.unverifiable {
        return Err(Comparison::Unverifiable { why: why.clone() });
    }
    let missing = |error: Error| Comparison::Missing {
        why: error.get_ref().to_string(),
    };
    let shard = open_all(&[path.to_owned()]).map_err(missing)?.remove(0);
    let found = shard.storage().len();
    match file.bytes {
        Some(expected) if expected != found => Err(Comparison::WrongLength { expected, found }),
        _ if !file.is_whole(found) => Err(Comparison::WrongLength {
            expected: file
                .hashes
                .last()
                .and_then(|(range, _)| range.clone())
                .map_or(0, |range| range.end),
            found,
        }),
        _ => {
            // Opened again when it is read: they may be more than a process may have open.
            shard.storage().release();
            Ok(shard)
        }
    }
}

/// The tensors of a file whose bytes differ, as far as they are known.
pub(super) fn differing_tensors(
    shard: &Shard,
    file: &ExpectedFile,
    options: &LoadOptions,
    control: &Control,
) -> Result<Vec<String>> {
    let len = shard.storage().len();
    let is_within =
        |offset: u64, bytes: u64| offset.checked_add(bytes).is_some_and(|end| end <= len);
    let known = file.tensors.iter().filter_map(|tensor| {
        let digest = tensor.digest()?;
        let extent = Extent::new(ShardId::FIRST, tensor.offset, tensor.bytes);
        let is_there = tensor.bytes > 0 && is_within(tensor.offset, tensor.bytes);
        is_there.then_some((tensor, digest, extent))
    });
    let known: Vec<_> = known.collect();
    let range = |(_, _, extent): &(_, _, Extent)| HashRange::new(*extent, HashAlgorithm::Blake3);
    let ranges: Vec<HashRange> = known.iter().map(range).collect();
    let hashed = hash_ranges(std::slice::from_ref(shard), ranges, options, control)?;
    let found = hashed.counts.hashed.unwrap_or_default().digests;
    let differing = known
        .iter()
        .zip(found)
        .filter(|((_, expected, _), found)| expected != found);
    Ok(differing
        .map(|((tensor, ..), _)| tensor.name.clone())
        .collect())
}

impl CheckedFile {
    /// The error that a caller reports who wants the file to be right; `None` if it is.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        let (kind, found) = match &self.comparison {
            Comparison::Right { .. } => return None,
            Comparison::Wrong {
                expected, found, ..
            } => {
                let algorithm = expected.algorithm();
                let found = format!("expected {algorithm} {expected}, found {found}");
                (ErrorKind::Malformed, found)
            }
            Comparison::WrongLength { expected, found } => {
                let found = format!("expected {expected} bytes, found {found}");
                (ErrorKind::Malformed, found)
            }
            Comparison::Missing { why } => (ErrorKind::NotFound, why.clone()),
            Comparison::Unexpected => (
                ErrorKind::Malformed,
                "the file is there, and the list does not have it".to_owned(),
            ),
            Comparison::Unverifiable { why } => (ErrorKind::Unsupported, why.clone()),
        };
        let error = Error::new(kind, found)
            .with_path(&self.path)
            .with_remedy(match kind {
                ErrorKind::Unsupported => "give a manifest: --manifest",
                _ => "fetch the file again from a source that you trust",
            });
        Some(match &self.comparison {
            Comparison::Wrong { tensors, .. } if !tensors.is_empty() => {
                error.with_tensor(&tensors[0])
            }
            _ => error,
        })
    }
}
