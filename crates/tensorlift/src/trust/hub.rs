//! The Hugging Face cache names its blobs by their hashes.

use std::path::Path;

use tensorlift_loader::{Digest, HashAlgorithm};

use super::{Expected, ExpectedFile};

impl Expected {
    /// What the names of blobs in the Hugging Face cache say of files that are links to them.
    ///
    /// A name of 64 hexadecimal digits is a SHA-256, as of files in large file storage; one of 40 is
    /// the SHA-1 that git gives a file. A blob of another name cannot be checked. Nothing is known
    /// of files that are no links to a blob.
    ///
    /// The names say what was fetched: a blob that was replaced by one with its own name is not
    /// found.
    pub fn from_hub<'p>(files: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut expected = Self::new("the Hugging Face cache");
        for path in files {
            let Ok(blob) = std::fs::canonicalize(path) else {
                continue;
            };
            let folder = blob.parent().and_then(Path::file_name);
            let is_link = std::fs::read_link(path).is_ok();
            if folder.is_none_or(|folder| folder != "blobs") || !is_link {
                continue;
            }
            let name = blob.file_name().unwrap_or_default().to_string_lossy();
            expected.add(path, of_blob(&name));
        }
        expected
    }
}

fn of_blob(name: &str) -> ExpectedFile {
    let algorithm = match name.len() {
        64 => Some(HashAlgorithm::Sha256),
        40 => Some(HashAlgorithm::GitSha1),
        _ => None,
    };
    match algorithm.and_then(|algorithm| Digest::from_hex(algorithm, name)) {
        Some(digest) => ExpectedFile::whole(None, digest),
        None => ExpectedFile {
            unverifiable: Some(format!("the name of its blob, {name:?}, is no hash")),
            ..ExpectedFile::default()
        },
    }
}
