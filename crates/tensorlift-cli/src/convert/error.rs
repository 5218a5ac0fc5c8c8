use std::fmt::Write;
use std::path::PathBuf;

use tensorlift::{Dtype, Error, ErrorKind};
use thiserror::Error as ThisError;

use super::output::Format;

/// Names that a message lists before it counts the rest.
const LISTED: usize = 100;

/// Why a checkpoint cannot be converted as asked.
#[derive(Debug, ThisError)]
pub(super) enum ConvertError {
    #[error("it exists already")]
    Exists(PathBuf),
    #[error("expected {expected}, found {found}")]
    Place {
        path: PathBuf,
        expected: &'static str,
        found: &'static str,
    },
    #[error("{format} files do not have this ending")]
    Ending { path: PathBuf, format: Format },
    #[error("files of this ending are of a format that is not written")]
    Foreign(PathBuf),
    #[error("the ending is nearly {near:?}, and not quite")]
    NearMiss { path: PathBuf, near: &'static str },
    #[error("a single file has no shards")]
    ShardsInFile(PathBuf),
    #[error("it is a file of the checkpoint that is converted")]
    Input(PathBuf),
    #[error("there is no such folder to write into")]
    NoFolder(PathBuf),
    #[error("--rename: no name matches {0}")]
    NoMatch(String),
    #[error("these names to keep are not in the checkpoint: {}", listed(.0, |name| format!("{name:?}")))]
    NoSuchNames(Vec<String>),
    #[error("these tensors have no bytes: {}", listed(.0, |name| format!("{name:?}")))]
    NoBytes(Vec<String>),
    #[error("{format} cannot hold {}", listed(.tensors, Unfit::describe))]
    Unfit { format: Format, tensors: Vec<Unfit> },
    #[error("all tensors together take more bytes than a file can have")]
    TooLarge,
}

/// A tensor that the format cannot hold.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl Unfit {
    fn describe(&self) -> String {
        format!("{:?} ({}{:?})", self.name, self.dtype, self.shape)
    }
}

fn listed<T>(all: &[T], describe: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = all.iter().take(LISTED).map(describe).collect();
    let mut text = shown.join(", ");
    if all.len() > LISTED {
        // Writing into a string cannot fail.
        let _ = write!(text, " and {} more", all.len() - LISTED);
    }
    text
}

impl From<ConvertError> for Error {
    fn from(error: ConvertError) -> Self {
        let (kind, remedy) = match &error {
            ConvertError::Exists(_) => (ErrorKind::Misuse, "choose another name, or use --force"),
            ConvertError::Place { .. } | ConvertError::Input(_) => {
                (ErrorKind::Misuse, "choose another name")
            }
            ConvertError::Ending { .. } => (
                ErrorKind::Misuse,
                "name a folder, use an ending of that format, or change --to",
            ),
            ConvertError::Foreign(_) => (
                ErrorKind::Unsupported,
                "end the name in .safetensors or .pt, or name a folder",
            ),
            ConvertError::NearMiss { .. } => (
                ErrorKind::Misuse,
                "spell the ending as the format does, or name a folder without it",
            ),
            ConvertError::ShardsInFile(_) => (
                ErrorKind::Misuse,
                "name a folder, or leave out --shard-size",
            ),
            ConvertError::NoFolder(_) => (ErrorKind::NotFound, "make the folder first"),
            ConvertError::NoMatch(_) => {
                (ErrorKind::NotFound, "`tensorlift inspect` lists the names")
            }
            ConvertError::NoSuchNames(_) => (
                ErrorKind::NotFound,
                "`tensorlift inspect` lists those that are",
            ),
            ConvertError::NoBytes(_) => (
                ErrorKind::Unsupported,
                "save the checkpoint with its weights, or choose a part of it with --root",
            ),
            ConvertError::Unfit { format, .. } => (
                ErrorKind::Unsupported,
                match format {
                    Format::Safetensors => "convert it with --to torch",
                    Format::Torch => "convert it with --to safetensors",
                },
            ),
            ConvertError::TooLarge => (ErrorKind::Unsupported, "convert it with --shard-size"),
        };
        let path = match &error {
            ConvertError::Exists(path)
            | ConvertError::Place { path, .. }
            | ConvertError::Ending { path, .. }
            | ConvertError::Foreign(path)
            | ConvertError::NearMiss { path, .. }
            | ConvertError::ShardsInFile(path)
            | ConvertError::NoFolder(path)
            | ConvertError::Input(path) => Some(path.clone()),
            _ => None,
        };
        let error = Error::new(kind, error).with_remedy(remedy);
        match path {
            Some(path) => error.with_path(path),
            None => error,
        }
    }
}
