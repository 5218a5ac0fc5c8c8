//! The names within an archive, for messages on archives that hold no checkpoint.

use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::Limits;

use super::zip::{Archive, ArchiveProblem};
use super::{detect, tar, zip};
use crate::Format;
use crate::error::Error;
use crate::pickle::{DescriptionBudget, display_text};

/// The names of the files in a zip or tar archive, whatever it holds, and the kind of archive;
/// `None` for other files and for damaged archives.
///
/// Of a tar archive, the first 64 files are named.
#[must_use]
pub fn archive_names(storage: &dyn Storage) -> Option<(Format, Vec<String>)> {
    let mut prefix = vec![0; storage.len().min(1024) as usize];
    storage.read_exact_at(0, &mut prefix).ok()?;
    let shown = |name: &[u8]| display_text(name).into_owned();
    let names = match detect::detect(&prefix)? {
        Format::Zip => {
            let limits = Limits::default();
            let mut budget = DescriptionBudget::for_file(storage.len(), limits.description_bytes);
            let archive = Archive::open(storage, &limits, &mut budget).ok()?;
            (Format::Zip, archive.names().map(shown).collect())
        }
        Format::Tar => {
            let members = tar::members(storage).ok()?;
            let names = members.iter().map(|(name, _)| shown(name));
            (Format::Tar, names.collect())
        }
        _ => return None,
    };
    Some(names)
}

/// How many other bytes stand before the zip archive that a file ends with, if its end records show
/// that some do.
#[must_use]
pub fn bytes_before_zip(storage: &dyn Storage) -> Option<u64> {
    match zip::locate_directory(storage) {
        Err(Error::Archive(ArchiveProblem::Prefix { byte_len })) => Some(byte_len),
        _ => None,
    }
}

/// Whether a file ends like a zip archive, sound or not.
#[must_use]
pub fn ends_like_zip(storage: &dyn Storage) -> bool {
    !matches!(
        zip::locate_directory(storage),
        Err(Error::Io { .. } | Error::CutShort { .. } | Error::ZerosAtEnd { .. })
    )
}
