//! Writing, by the format's own crate.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

use safetensors::tensor::View;

use crate::Error;

/// Writes a safetensors file: to a temporary file beside `path`, then renamed.
///
/// Tensors are asked for their bytes one after another, so a [`View`] that makes them on demand
/// keeps one in memory at a time.
/// The crate `safetensors` orders them by falling element width, then by name.
///
/// # Errors
/// [`Error::Write`]: the disk refused, or a view's size does not fit its dtype and shape.
pub fn write_file<N, V>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, V)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), Error>
where
    N: AsRef<str> + Ord + Display,
    V: View,
{
    safetensors::serialize_to_file(tensors, some_lines(metadata), path.as_ref())
        .map_err(|error| Error::Write(error.into()))
}

/// The bytes of a safetensors file; otherwise as [`write_file`].
///
/// # Errors
/// [`Error::Write`].
pub fn to_bytes<N, V>(
    tensors: impl IntoIterator<Item = (N, V)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, Error>
where
    N: AsRef<str> + Ord + Display,
    V: View,
{
    safetensors::serialize(tensors, some_lines(metadata))
        .map_err(|error| Error::Write(error.into()))
}

/// An empty map is left out: with it and no tensor, safetensors 0.8 writes broken JSON.
fn some_lines(metadata: Option<HashMap<String, String>>) -> Option<HashMap<String, String>> {
    metadata.filter(|lines| !lines.is_empty())
}
