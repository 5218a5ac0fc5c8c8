//! A list of files and their tensors, with a hash of each.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tensorlift_loader::{
    Control, Digest, HashAlgorithm, HashRange, LoadOptions, Shard, hash_ranges,
};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{ByteOrder, Entry, Error, ErrorKind, Extent, Result, ShardId, Source};

use super::sums::within;
use super::{Expected, ExpectedFile};
use crate::Checkpoint;
use crate::open::open_all;

/// The version of the form that this crate writes, and the only one that it reads.
const VERSION: u32 = 1;
/// The most bytes of a manifest.
const MANIFEST_BYTES: u64 = 256 << 20;

/// Hashes of the files of a checkpoint and of their tensors; as JSON in files.
///
/// Hashes of tensors are of their bytes as the file has them, so that a selection can be checked
/// by reading no more than what is selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The version of this form: 1.
    #[serde(rename = "tensorlift_manifest")]
    pub version: u32,
    /// The files, by name.
    pub files: Vec<ManifestFile>,
}

/// A file in a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ManifestFile {
    /// The path from the checkpoint's folder on, with `/`.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The BLAKE3 of all its bytes.
    pub blake3: String,
    /// The SHA-256 of all its bytes, for other programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Its tensors, where it is read as a part of the checkpoint.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tensors: Vec<ManifestTensor>,
}

/// A tensor in a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ManifestTensor {
    /// Its name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: String,
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// What sets its layout apart from row-major little-endian values, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layout: Option<String>,
    /// The position of its first byte in the file.
    pub offset: u64,
    /// How many bytes the file has for it: those from its first to its last element, or those of
    /// a compressed record; 0 where the file's metadata hold them.
    pub bytes: u64,
    /// The BLAKE3 of these bytes; where the metadata hold them, of what they are once decoded.
    pub blake3: String,
}

impl Manifest {
    /// Hashes the files of a checkpoint, their tensors, and `others`, files in the same folder or
    /// below.
    ///
    /// Every file is read once. With `sha256`, the manifest has the SHA-256 of each file too, for
    /// other programs; that takes longer, since one thread alone can hash a file then.
    ///
    /// # Errors
    /// If a file cannot be read, lies in another folder, or has a name that is no Unicode.
    pub fn of(
        checkpoint: &Checkpoint,
        others: &[PathBuf],
        sha256: bool,
        options: &LoadOptions,
        control: &Control,
    ) -> Result<Self> {
        let folder = checkpoint.folder();
        let mut shards = checkpoint.shards().to_vec();
        let is_other = |path: &&PathBuf| checkpoint.files().all(|file| file != path.as_path());
        let others: Vec<PathBuf> = others.iter().filter(is_other).cloned().collect();
        shards.extend(open_all(&others)?);

        let mut hashing = Hashing::default();
        let entries = checkpoint.catalog().entries();
        let of_files: Vec<_> = shards
            .iter()
            .enumerate()
            .map(|(index, shard)| {
                let extent = Extent::new(ShardId(index as u32), 0, shard.storage().len());
                let sha256 = sha256.then(|| hashing.add(extent, HashAlgorithm::Sha256));
                (hashing.add(extent, HashAlgorithm::Blake3), sha256)
            })
            .collect();
        let of_tensors: Vec<Option<usize>> = entries
            .iter()
            .map(|entry| match entry.extent() {
                extent if extent.is_empty() => None,
                extent => Some(hashing.add(extent, HashAlgorithm::Blake3)),
            })
            .collect();
        let hashed = hash_ranges(&shards, hashing.ranges, options, control)?;
        let digests = hashed.counts.hashed.unwrap_or_default().digests;

        let mut files = Vec::with_capacity(shards.len());
        for (shard, (blake3, sha256)) in shards.iter().zip(of_files) {
            files.push(ManifestFile {
                name: name_within(&folder, shard)?,
                bytes: shard.storage().len(),
                blake3: digests[blake3].to_string(),
                sha256: sha256.map(|index| digests[index].to_string()),
                tensors: Vec::new(),
            });
        }
        for (entry, of_tensor) in entries.iter().zip(of_tensors) {
            let digest = match of_tensor {
                Some(index) => digests[index],
                None => decoded_digest(checkpoint, entry),
            };
            let tensor = ManifestTensor::new(checkpoint, entry, digest);
            files[entry.extent().shard.index()].tensors.push(tensor);
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self {
            version: VERSION,
            files,
        })
    }

    /// Reads a manifest from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if it cannot be read; otherwise as [`parse`](Self::parse), and for
    /// files of more than 256 MiB.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let named = |error: Error| error.with_path(path);
        Self::parse(&read_text(path)?).map_err(named)
    }

    /// Reads a manifest from its text.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if it is none; [`ErrorKind::Unsupported`] for another version.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            tensorlift_manifest: u32,
        }
        let malformed = |error: serde_json::Error| {
            Error::new(
                ErrorKind::Malformed,
                format!("expected a manifest: {error}"),
            )
            .with_remedy("write one with `tensorlift manifest`")
        };
        let versioned: Versioned = serde_json::from_str(text).map_err(malformed)?;
        if versioned.tensorlift_manifest != VERSION {
            let found = versioned.tensorlift_manifest;
            let found = format!("expected a manifest of version {VERSION}, found version {found}");
            return Err(Error::new(ErrorKind::Unsupported, found)
                .with_remedy("write it again, or use a newer tensorlift"));
        }
        serde_json::from_str(text).map_err(malformed)
    }
}

impl Expected {
    /// What a manifest says of files in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for a hash of the wrong length, and for a name that leads out of
    /// the folder or is there twice.
    pub fn from_manifest(manifest: &Manifest, folder: &Path) -> Result<Self> {
        let mut expected = Self::new("a manifest").complete(true);
        for file in &manifest.files {
            let path = within(folder, &file.name)?;
            let malformed = |found: String| {
                Error::new(ErrorKind::Malformed, found)
                    .with_path(&path)
                    .with_remedy("write the manifest again")
            };
            let Some(digest) = Digest::from_hex(HashAlgorithm::Blake3, &file.blake3) else {
                let found = &file.blake3;
                return Err(malformed(format!("expected a BLAKE3, found {found:?}")));
            };
            if expected.of(&path).is_some() {
                return Err(malformed("the manifest lists the file twice".into()));
            }
            let mut known = ExpectedFile::whole(Some(file.bytes), digest);
            known.tensors = file.tensors.clone();
            expected.add(&path, known);
        }
        Ok(expected)
    }
}

impl ManifestTensor {
    fn new(checkpoint: &Checkpoint, entry: &Entry, blake3: Digest) -> Self {
        let extent = entry.extent();
        Self {
            name: checkpoint.name_in_file(entry),
            dtype: entry.dtype().to_string(),
            shape: entry.shape().to_vec(),
            layout: layout_in_words(checkpoint, entry),
            offset: extent.offset,
            bytes: extent.len,
            blake3: blake3.to_string(),
        }
    }

    /// Whether it is this tensor of the same file, in all but its bytes.
    pub(super) fn describes(&self, checkpoint: &Checkpoint, entry: &Entry) -> bool {
        let extent = entry.extent();
        (self.offset, self.bytes) == (extent.offset, extent.len)
            && self.name == checkpoint.name_in_file(entry)
            && self.dtype == entry.dtype().to_string()
            && self.shape == entry.shape()
            && self.layout == layout_in_words(checkpoint, entry)
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::from_hex(HashAlgorithm::Blake3, &self.blake3)
    }
}

/// The hash of what is in a tensor's record in the catalog; of nothing, if it has no bytes.
pub(super) fn decoded_digest(checkpoint: &Checkpoint, entry: &Entry) -> Digest {
    let bytes = match &checkpoint.catalog().record(entry).source {
        Source::Inline { bytes, .. } => Arc::clone(bytes),
        _ => Arc::default(),
    };
    HashAlgorithm::Blake3.digest(&bytes)
}

/// What sets a layout apart from row-major little-endian values.
fn layout_in_words(checkpoint: &Checkpoint, entry: &Entry) -> Option<String> {
    let layout = entry.layout();
    let mut words = Vec::new();
    if let Some(strides) = layout.strides() {
        words.push(format!("strides {strides:?}"));
    }
    if layout.byte_order() == ByteOrder::Big {
        words.push("big-endian".to_owned());
    }
    if layout.is_conjugated() {
        words.push("conjugated".to_owned());
    }
    if layout.is_negated() {
        words.push("negated".to_owned());
    }
    let offset = entry.view().offset;
    match checkpoint.catalog().record(entry).source {
        Source::Deflated { len, .. } => {
            words.push(format!("from byte {offset} of {len} that are compressed"));
        }
        Source::Inline { .. } => words.push(format!("from byte {offset} of the metadata's")),
        Source::Absent { .. } => words.push("without bytes".to_owned()),
        _ => {}
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Ranges to hash, each once.
#[derive(Default)]
struct Hashing {
    ranges: Vec<HashRange>,
    positions: HashMap<(Extent, HashAlgorithm), usize>,
}

impl Hashing {
    /// The position of a range among all.
    fn add(&mut self, extent: Extent, algorithm: HashAlgorithm) -> usize {
        let ranges = &mut self.ranges;
        *self
            .positions
            .entry((extent, algorithm))
            .or_insert_with(|| {
                ranges.push(HashRange::new(extent, algorithm));
                ranges.len() - 1
            })
    }
}

fn name_within(folder: &Path, shard: &Shard) -> Result<String> {
    let path = shard.path();
    let parts = path.strip_prefix(folder).unwrap_or(path).components();
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    let parts: Option<Vec<String>> = parts.map(part).collect();
    let parts = parts.filter(|parts| !parts.is_empty());
    parts.map(|parts| parts.join("/")).ok_or_else(|| {
        let found = format!(
            "expected a file in {} with a name in Unicode",
            folder.display()
        );
        Error::new(ErrorKind::Unsupported, found)
            .with_path(path)
            .with_remedy("move or rename the file")
    })
}

/// The text of a manifest, a list of sums or a signature.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let fail = |error| {
        Error::new(ErrorKind::Storage, error)
            .with_path(path)
            .with_remedy("check the path and the permissions")
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut text = String::new();
    let mut limited = file.take(MANIFEST_BYTES + 1);
    limited.read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MANIFEST_BYTES {
        let found =
            format!("expected a text of at most {MANIFEST_BYTES} bytes, found a longer one");
        return Err(Error::new(ErrorKind::LimitExceeded, found).with_path(path));
    }
    Ok(text)
}
