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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// What went wrong, where, and what to do; one pointer wide.
///
/// Displayed, it is one line: the file, the tensor, the byte range, what was expected and found,
/// and a remedy, as far as each is known.
/// [`source`](StdError::source) is the cause of that, which the line does not repeat; `{:#}` puts
/// all causes into the line.
/// [`get_ref`](Self::get_ref) is the error of the crate that failed.
///
/// ```
/// use std::io;
///
/// use tensorlift_tensor_meta::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Storage, io::Error::from(io::ErrorKind::TimedOut))
///     .with_path("model.safetensors");
/// assert_eq!(error.to_string(), "model.safetensors: timed out");
/// let inner = error.get_ref().downcast_ref::<io::Error>().unwrap();
/// assert_eq!(inner.kind(), io::ErrorKind::TimedOut);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
    extent: Option<Extent>,
    remedy: Option<&'static str>,
    error: BoxError,
}

/// # Making errors
impl Error {
    /// An error of this kind; `error` says what was expected and what was found.
    pub fn new(kind: ErrorKind, error: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner {
            kind,
            path: None,
            tensor: None,
            extent: None,
            remedy: None,
            error: error.into(),
        }))
    }

    /// Sets the file, unless it is set already.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Sets the tensor, unless it is set already.
    #[must_use]
    pub fn with_tensor(mut self, tensor: impl Into<String>) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.into());
        self
    }

    /// Sets the byte range within the file, unless it is set already.
    #[must_use]
    pub fn with_extent(mut self, extent: Extent) -> Self {
        self.0.extent.get_or_insert(extent);
        self
    }

    /// Sets the remedy, unless it is set already.
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

    /// The error of the crate that failed, for downcasts.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            path,
            tensor,
            extent,
            remedy,
            error,
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
        write!(f, "{error}")?;
        if f.alternate() {
            for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
                write!(f, ": {cause}")?;
            }
        }
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
            error,
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("path", path)
            .field("tensor", tensor)
            .field("extent", extent)
            .field("remedy", remedy)
            .field("error", error)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.error.source()
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

    #[test]
    fn every_message_is_there_once() {
        let cause = Error::new(ErrorKind::Storage, "the disk is gone");
        let middle = std::io::Error::other(cause);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the header")]
        struct Outer(#[source] std::io::Error);
        let error = Error::new(ErrorKind::Storage, Outer(middle)).with_remedy("check the disk");
        assert_eq!(error.to_string(), "cannot read the header; check the disk");
        let chain: Vec<String> =
            std::iter::successors(Some(&error as &dyn StdError), |&error| error.source())
                .map(ToString::to_string)
                .collect();
        assert_eq!(
            chain,
            ["cannot read the header; check the disk", "the disk is gone"]
        );
        assert_eq!(
            format!("{error:#}"),
            "cannot read the header: the disk is gone; check the disk"
        );
        assert!(error.get_ref().is::<Outer>());
    }
}
