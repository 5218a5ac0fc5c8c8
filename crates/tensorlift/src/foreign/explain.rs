//! What the names within an archive, and the zeros at the end of a file, say about it.

use std::path::Path;

use tensorlift_format_safetensors as safetensors;
use tensorlift_shard_index::Sniffed;
use tensorlift_storage::{FileStorage, Storage};
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::identify::{by_prefix, prefix, zeros};
use super::{Foreign, has_weights_in};
use crate::formats::{Archive, Beginning, torch};

/// The fewest zeros at the end of a file that count as damage.
const TAIL_BYTES: u64 = 64;

/// Replaces the error of a file that begins like a checkpoint, if the rest of the file shows the
/// cause.
pub(crate) fn explain(storage: &dyn Storage, path: &Path, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) {
        return error;
    }
    let is_piece = path.extension().is_some_and(|end| end == "distcp");
    let found = match torch::archive(storage) {
        _ if is_piece => Some(Foreign::Distributed),
        // The reader's error describes a damaged PyTorch archive better.
        Some(archive) => of_archive(archive),
        None => Some(zeros(storage, true))
            .filter(|&zeros| zeros >= TAIL_BYTES)
            .map(Foreign::ZerosLast),
    };
    match found {
        Some(found) => found.error(path),
        None => error,
    }
}

fn of_archive(archive: Archive) -> Option<Foreign> {
    let ends = |names: &[String], end: &str| names.iter().any(|name| name.ends_with(end));
    match archive {
        Archive::Tar(names) => {
            let of_torch = |name: &String| name == "storages" || name == "pickle";
            (!names.iter().any(of_torch)).then_some(Foreign::Tar(names))
        }
        Archive::Zip(names) => Some(match &names[..] {
            names if ends(names, "/archive_format") || ends(names, "exported_program.json") => {
                Foreign::Export
            }
            names if ends(names, "/.data/extern_modules") => Foreign::Package,
            names if ends(names, "data.pkl") || names.is_empty() => return None,
            names if names.iter().all(|name| name.ends_with(".npy")) => Foreign::Npz,
            _ => Foreign::Zip(names),
        }),
    }
}

/// The format of a file with an unknown name, for the choice among the files of a folder.
pub(crate) fn sniff(path: &Path) -> Sniffed {
    let Ok(storage) = FileStorage::open(path) else {
        return Sniffed::Other;
    };
    let Ok(prefix) = prefix(&storage) else {
        return Sniffed::Other;
    };
    if safetensors::is_safetensors(&prefix) {
        return Sniffed::Safetensors;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name that promises weights is reported even if the bytes are something else.
    let promises = has_weights_in(&name.to_lowercase());
    let otherwise = match promises {
        true => Sniffed::Unsupported,
        false => Sniffed::Other,
    };
    match torch::detect(&prefix) {
        Some(Beginning::Archive) => match torch::archive(&storage) {
            None => Sniffed::Torch,
            Some(archive) => match of_archive(archive) {
                None => Sniffed::Torch,
                Some(Foreign::Zip(names) | Foreign::Tar(names)) => {
                    match names.iter().any(|name| has_weights_in(name)) {
                        true => Sniffed::Unsupported,
                        false => otherwise,
                    }
                }
                Some(_) => Sniffed::Unsupported,
            },
        },
        Some(Beginning::Legacy) => Sniffed::Torch,
        // Without a protocol mark, it may be a text as well.
        Some(_) if prefix.first() == Some(&0x80) || promises => Sniffed::Torch,
        _ => match by_prefix(&prefix) {
            Some(
                Foreign::Gguf
                | Foreign::Ggml
                | Foreign::Hdf5
                | Foreign::Npy
                | Foreign::Onnx
                | Foreign::TfLite,
            ) => Sniffed::Unsupported,
            _ => otherwise,
        },
    }
}
