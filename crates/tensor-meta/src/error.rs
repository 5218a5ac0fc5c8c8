use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Extent;

/// A result with tensorlift's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error that can be carried as a source.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Who must act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading failed: the disk, the network mount, the permissions.
    Storage,
    /// The file breaks its format: fetch it again.
    Malformed,
    /// The file is fine, but uses what this version cannot load.
    Unsupported,
    /// A ceiling was crossed: raise it if the input is trusted.
    LimitExceeded,
    /// A file, tensor or hub entry that was asked for does not exist.
    NotFound,
    /// The device refused: out of memory, lost, or without a driver.
    Device,
    /// The call itself was wrong.
    Misuse,
    /// The caller cancelled.
    Cancelled,
}

impl ErrorKind {
    /// The name used in machine-readable output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Storage => "storage",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::LimitExceeded => "limit_exceeded",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Device => "device",
            ErrorKind::Misuse => "misuse",
            ErrorKind::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What went wrong, where, and what to do: one pointer wide.
///
/// Displayed, it is one line: the file, the tensor, the byte range, what was expected and found,
/// and a remedy, as far as each is known.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
    extent: Option<Extent>,
    remedy: Option<&'static str>,
    source: BoxError,
}

/// # Making errors
impl Error {
    /// An error of this kind; `source` says what was expected and what was found.
    pub fn new(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner {
            kind,
            path: None,
            tensor: None,
            extent: None,
            remedy: None,
            source: source.into(),
        }))
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Names the tensor, unless one is named already.
    #[must_use]
    pub fn with_tensor(mut self, tensor: impl Into<String>) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.into());
        self
    }

    /// Gives the byte range within the file, unless one is given already.
    #[must_use]
    pub fn with_extent(mut self, extent: Extent) -> Self {
        self.0.extent.get_or_insert(extent);
        self
    }

    /// Says what the reader can do about it, unless that is said already.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &'static str) -> Self {
        self.0.remedy.get_or_insert(remedy);
        self
    }
}

/// # Reading errors
impl Error {
    /// Who must act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file at fault.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The tensor at fault.
    #[must_use]
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// The bytes at fault.
    #[must_use]
    pub fn extent(&self) -> Option<Extent> {
        self.0.extent
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        self.0.remedy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            path,
            tensor,
            extent,
            remedy,
            source,
            ..
        } = &*self.0;
        if let Some(path) = path {
            write!(f, "{}: ", path.display())?;
        }
        match (tensor, extent) {
            (Some(tensor), Some(extent)) => write!(f, "tensor {tensor:?}, bytes {extent}: ")?,
            (Some(tensor), None) => write!(f, "tensor {tensor:?}: ")?,
            (None, Some(extent)) => write!(f, "bytes {extent}: ")?,
            (None, None) => {}
        }
        write!(f, "{source}")?;
        if let Some(remedy) = remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            path,
            tensor,
            extent,
            remedy,
            source,
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("path", path)
            .field("tensor", tensor)
            .field("extent", extent)
            .field("remedy", remedy)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;

    #[test]
    fn one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn a_line_with_everything() {
        let error = Error::new(ErrorKind::Malformed, "expected 8 bytes, found 4")
            .with_path("m/a.safetensors")
            .with_tensor("w")
            .with_extent(Extent::new(ShardId::FIRST, 16, 4))
            .with_remedy("fetch the file again");
        assert_eq!(
            error.to_string(),
            "m/a.safetensors: tensor \"w\", bytes 16..20: expected 8 bytes, found 4; fetch the file again"
        );
        assert_eq!(
            error.with_path("other").path(),
            Some(Path::new("m/a.safetensors"))
        );
    }
}
