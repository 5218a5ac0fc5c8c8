//! Who must act on an error, where, and how.

use std::io;
use std::path::PathBuf;

use tensorlift_tensor_meta::{CatalogError, Error as MetaError, ErrorKind};

use super::Error;
use super::message::UnsupportedKind;
use crate::index::{IndexError, SHARDS};

impl From<Error> for MetaError {
    fn from(error: Error) -> Self {
        let kind = kind(&error);
        let path = path(&error).cloned();
        let tensor = match &error {
            Error::Conflicts(conflicts) => conflicts.only_tensor().map(str::to_owned),
            _ => None,
        };
        let remedy = remedy(&error);
        let mut error = MetaError::new(kind, error);
        if let Some(path) = path {
            error = error.with_path(path);
        }
        if let Some(tensor) = tensor {
            error = error.with_tensor(tensor);
        }
        match remedy {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}

impl From<IndexError> for MetaError {
    fn from(error: IndexError) -> Self {
        let remedy = index_remedy(&error);
        MetaError::new(index_kind(&error), error).with_remedy(remedy)
    }
}

fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::EmptyTarget
        | Error::NotAFile { .. }
        | Error::Ambiguous { .. }
        | Error::IndexOfFile { .. }
        | Error::HubName { .. }
        | Error::ShardCount { .. } => ErrorKind::Misuse,
        Error::NoCheckpoint {
            unsupported,
            folders,
            ..
        } if !unsupported.is_empty() && folders.is_empty() => ErrorKind::Unsupported,
        Error::NotFound { .. }
        | Error::NotCached(_)
        | Error::DanglingLink { .. }
        | Error::EmptyFolder { .. }
        | Error::NoCheckpoint { .. }
        | Error::NoVariant { .. }
        | Error::MissingParts { .. }
        | Error::MissingShards { .. } => ErrorKind::NotFound,
        Error::Io { error, .. } if error.kind() == io::ErrorKind::OutOfMemory => {
            ErrorKind::LimitExceeded
        }
        Error::Io { .. } => ErrorKind::Storage,
        Error::InSnapshot { error, .. } => kind(error),
        Error::Index { error, .. } => index_kind(error),
        Error::CorruptRef { .. } | Error::Conflicts(_) => ErrorKind::Malformed,
        Error::Catalog(CatalogError::TooMany | CatalogError::NoMemory { .. }) => {
            ErrorKind::LimitExceeded
        }
        Error::Catalog(_) => ErrorKind::Malformed,
    }
}

fn index_kind(error: &IndexError) -> ErrorKind {
    match error {
        IndexError::LimitExceeded { .. } | IndexError::NoMemory => ErrorKind::LimitExceeded,
        _ => ErrorKind::Malformed,
    }
}

fn path(error: &Error) -> Option<&PathBuf> {
    match error {
        Error::NotFound { target: path, .. }
        | Error::DanglingLink { path, .. }
        | Error::NotAFile { path }
        | Error::Io { path, .. }
        | Error::EmptyFolder { folder: path }
        | Error::NoCheckpoint { folder: path, .. }
        | Error::Ambiguous { folder: path, .. }
        | Error::NoVariant { folder: path, .. }
        | Error::MissingParts { folder: path, .. }
        | Error::Index { path, .. }
        | Error::IndexOfFile { path }
        | Error::CorruptRef { path, .. } => Some(path),
        Error::MissingShards { index, missing, .. } => {
            index.as_ref().or_else(|| Some(&missing.first()?.path))
        }
        Error::InSnapshot { error, .. } => path(error),
        Error::NotCached(miss) => Some(&miss.cache),
        Error::Conflicts(conflicts) => conflicts.index.as_ref(),
        Error::EmptyTarget
        | Error::HubName { .. }
        | Error::ShardCount { .. }
        | Error::Catalog(_) => None,
    }
}

fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::EmptyTarget => "name a file, a folder or a model in the cache",
        Error::NotFound { hub: None, .. } => "check the spelling",
        Error::DanglingLink { .. } => "fetch the file again, or repair the link",
        Error::NotAFile { .. } => "copy the bytes to a file first",
        Error::Io { error, .. } => match error.kind() {
            io::ErrorKind::PermissionDenied => "allow this user to read it",
            io::ErrorKind::OutOfMemory => "free memory, or raise its limit (ulimit -v)",
            _ if is_out_of_files(error) => "allow more open files (ulimit -n)",
            _ => return None,
        },
        Error::EmptyFolder { .. } => "fetch the checkpoint into it, or name another folder",
        Error::NoCheckpoint {
            unsupported,
            folders,
            ..
        } => match UnsupportedKind::of(unsupported) {
            _ if !folders.is_empty() => "name one of the folders",
            None => "name another folder, or the file if its name is another",
            Some(UnsupportedKind::Distributed) => {
                "make one file of it: python -m torch.distributed.checkpoint.format_utils \
                 dcp_to_torch FOLDER OUT.pt"
            }
            Some(UnsupportedKind::Export) => {
                "save its weights: torch.save(torch.export.load(FILE).state_dict, OUT.pt)"
            }
            Some(UnsupportedKind::LlamaCpp) => {
                "fetch the model's safetensors or PyTorch files, or open it with llama.cpp"
            }
            Some(UnsupportedKind::Archive) => "unpack the archive, and name what was in it",
            Some(UnsupportedKind::Other) => {
                "fetch the model's safetensors or PyTorch files, or save it as such"
            }
        },
        Error::Ambiguous { .. } => {
            "name one of the files, or list those that belong together with --files"
        }
        Error::NoVariant { available, .. } if available.is_empty() => "leave the variant out",
        Error::NoVariant { .. } => "request an existing variant, or none",
        Error::IndexOfFile { .. } => "name the folder, or the index file alone",
        Error::MissingShards { alternatives, .. } if !alternatives.is_empty() => {
            "fetch the missing parts, or name the file to load"
        }
        Error::MissingParts { .. } | Error::MissingShards { .. } => "fetch what is missing",
        Error::Index { error, .. } => index_remedy(error),
        Error::HubName { .. } => "write it as \"org/name\" or \"org/name@revision\"",
        Error::CorruptRef { .. } => "fetch the model again",
        Error::Conflicts(conflicts) if conflicts.index.is_none() => {
            "name one file, or fetch the index of the files"
        }
        Error::Conflicts(conflicts) if conflicts.repeated.is_empty() => {
            "fetch index and shards again, all from one revision, or load the folder with --no-index"
        }
        Error::Conflicts(_) => "fetch index and shards again, all from one revision",
        Error::ShardCount { .. } => "pass one catalog for each shard, in their order",
        Error::Catalog(CatalogError::NoMemory { .. }) => {
            "free memory, or raise its limit (ulimit -v)"
        }
        Error::Catalog(_) => "fetch the shards again",
        // The message names the command already, or there is no remedy.
        Error::NotFound { .. } | Error::NotCached(_) | Error::InSnapshot { .. } => return None,
    })
}

fn index_remedy(error: &IndexError) -> &'static str {
    match error {
        IndexError::LimitExceeded { what: SHARDS, .. } => {
            "save the checkpoint in fewer, larger shards"
        }
        IndexError::LimitExceeded { .. } => "raise the limit if the file is trusted",
        IndexError::NoMemory => "free memory, or raise its limit (ulimit -v)",
        IndexError::NoWeightMap => "name the folder, or the index file itself",
        IndexError::LfsPointer => "fetch the file itself, with git lfs pull",
        _ => "fetch the index again",
    }
}

/// Whether the process or the system has no descriptor left: EMFILE or ENFILE.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}
