//! Whether files are what somebody says they are: hashes expected of them, and their comparison.
//!
//! Expected hashes come from a [`Manifest`], from a `SHA256SUMS` file, from the names of blobs in
//! the Hugging Face cache, or from a signature of the OpenSSF's Model Signing (feature
//! `signatures`).
//! A load that is given them ([`Loader::expect`](crate::Loader::expect)) hashes while it reads and
//! hands nothing out if a hash differs; [`check`] hashes files without loading them.
//!
//! ```
//! use tensorlift::{Checkpoint, Control, LoadOptions};
//! use tensorlift::trust::{Expected, Manifest};
//!
//! # fn main() -> tensorlift::Result<()> {
//! let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
//! let (options, control) = (LoadOptions::default(), Control::default());
//! let manifest = Manifest::of(&checkpoint, &[], false, &options, &control)?;
//! let expected = Expected::from_manifest(&manifest, "fixtures/tiny-model".as_ref())?;
//! let loaded = checkpoint.loader().expect(expected).load()?;
//! assert_eq!(loaded.report().hashed.as_ref().unwrap().matched, 1);
//! # Ok(())
//! # }
//! ```

mod check;
mod hub;
mod manifest;
mod ranges;
#[cfg(feature = "signatures")]
mod signature;
mod sums;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tensorlift_loader::{Digest, HashRange};
use tensorlift_tensor_meta::{Extent, Result, ShardId};

pub use check::{CheckedFile, Comparison, check};
pub(crate) use ranges::HashUnit;

pub use manifest::{Manifest, ManifestFile, ManifestTensor};
#[cfg(feature = "signatures")]
pub use signature::SignedModel;

/// What files must hash to, and who says so.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    files: BTreeMap<PathBuf, ExpectedFile>,
    source: String,
    /// Whether a file that is not among them is an error.
    is_complete: bool,
}

/// What is known of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectedFile {
    /// Its length in bytes.
    bytes: Option<u64>,
    /// Hashes of all of it, or of the parts that make it up.
    hashes: Vec<(Option<Range<u64>>, Digest)>,
    tensors: Vec<ManifestTensor>,
    /// Why it cannot be checked, if it cannot.
    unverifiable: Option<String>,
}

impl Expected {
    fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            ..Self::default()
        }
    }

    fn add(&mut self, path: &Path, file: ExpectedFile) {
        self.files.insert(absolute(path), file);
    }

    /// What a file says that has lists of hashes: a manifest or a list of SHA-256 sums, for files
    /// in `folder`.
    ///
    /// # Errors
    /// As [`Manifest::parse`] and [`Expected::from_sums`].
    pub fn read(list: impl AsRef<Path>, folder: &Path) -> Result<Self> {
        let list = list.as_ref();
        let text = manifest::read_text(list)?;
        let expected = match text.trim_start().starts_with('{') {
            true => {
                Manifest::parse(&text).and_then(|manifest| Self::from_manifest(&manifest, folder))
            }
            false => Self::from_sums(&text, folder),
        };
        expected.map_err(|error| error.with_path(list))
    }

    /// Who says what the hashes must be, for reports.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The files of which something is known.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Whether nothing is known of any file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Makes it an error if a file is loaded of which nothing is known.
    ///
    /// Default: so for manifests, lists of sums and signatures, and not for the names of blobs.
    #[must_use]
    pub fn complete(mut self, is_complete: bool) -> Self {
        self.is_complete = is_complete;
        self
    }

    /// The same for those files alone for which `wanted` holds.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Path) -> bool) -> Self {
        self.files.retain(|path, _| wanted(path));
        self
    }

    fn of(&self, path: &Path) -> Option<&ExpectedFile> {
        self.files.get(&absolute(path))
    }
}

impl ExpectedFile {
    fn whole(bytes: Option<u64>, digest: Digest) -> Self {
        Self {
            bytes,
            hashes: vec![(None, digest)],
            ..Self::default()
        }
    }

    /// The ranges to hash of a file of this length.
    fn ranges(&self, shard: ShardId, len: u64) -> impl Iterator<Item = HashRange> + '_ {
        self.hashes.iter().map(move |(range, digest)| {
            let extent = match range {
                None => Extent::new(shard, 0, len),
                Some(range) => Extent::new(shard, range.start, range.end - range.start),
            };
            HashRange::expect(extent, *digest)
        })
    }

    /// Whether the parts with hashes are all of a file of this length, without gaps.
    fn is_whole(&self, len: u64) -> bool {
        let mut end = 0;
        for (range, _) in &self.hashes {
            let Some(range) = range else { return true };
            if range.start != end || range.end < range.start {
                return false;
            }
            end = range.end;
        }
        end == len
    }
}

/// The path without `.` and from the root on; links are not followed.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
