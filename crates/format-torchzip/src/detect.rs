//! What a file is, told from its first bytes.

use std::fmt;

use crate::Format;
use crate::container::legacy;
use crate::pickle;

/// What a file seems to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A file that this crate reads; zip archives may still turn out to be of another kind.
    Torch(Format),
    /// No byte at all.
    Empty,
    /// Nothing but zeros, as interrupted downloads leave behind.
    Zeros,
    /// A safetensors file.
    Safetensors,
    /// A GGUF model.
    Gguf,
    /// A model in llama.cpp's formats before GGUF.
    Ggml,
    /// A web page.
    Html,
    /// A message of a web service.
    XmlOrJson,
    /// The pointer that stands for a file kept in Git LFS.
    LfsPointer,
    /// A gzip stream.
    Gzip,
    /// Another compressed stream: bzip2, xz, zstd, 7z or rar.
    Compressed,
    /// An HDF5 file, as Keras writes.
    Hdf5,
    /// A NumPy array.
    Npy,
    /// An ONNX model.
    Onnx,
    /// A TensorFlow Lite model.
    TfLite,
    /// A program or library.
    Executable,
    /// A PDF document or an image.
    Media,
    /// Readable text.
    Text,
    /// None of these.
    Unknown,
}

/// Tells what a file is from its first bytes; 512 are enough, fewer do for most.
#[must_use]
pub fn identify(prefix: &[u8]) -> Content {
    if prefix.is_empty() {
        return Content::Empty;
    }
    if let Some(format) = torch(prefix) {
        return Content::Torch(format);
    }
    for (magic, content) in MAGICS {
        if prefix.starts_with(magic) {
            return *content;
        }
    }
    if is_safetensors(prefix) {
        return Content::Safetensors;
    }
    if prefix.get(4..8) == Some(b"TFL3") {
        return Content::TfLite;
    }
    text(prefix)
        .or_else(|| plain_pickle(prefix))
        .or_else(|| is_onnx(prefix).then_some(Content::Onnx))
        .or_else(|| {
            prefix
                .iter()
                .all(|&byte| byte == 0)
                .then_some(Content::Zeros)
        })
        .unwrap_or(Content::Unknown)
}

/// The format of a PyTorch file, told from its first bytes, or `None` for anything else.
///
/// ```
/// use tensorlift_format_torchzip::{Format, detect};
///
/// assert_eq!(detect(b"PK\x03\x04..."), Some(Format::Zip));
/// assert_eq!(detect(b"GGUF"), None);
/// ```
#[must_use]
pub fn detect(prefix: &[u8]) -> Option<Format> {
    match identify(prefix) {
        Content::Torch(format) => Some(format),
        _ => None,
    }
}

impl Content {
    /// Whether another reader of tensorlift takes it.
    #[must_use]
    pub const fn is_loadable(self) -> bool {
        matches!(self, Content::Safetensors)
    }

    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Content::Torch(_) => "fetch the file again",
            Content::Empty | Content::Zeros | Content::Html | Content::XmlOrJson => {
                "the download failed: fetch the file again"
            }
            Content::LfsPointer => "fetch the real file with `git lfs pull`",
            Content::Safetensors => "open it as safetensors; its name misleads",
            Content::Gzip | Content::Compressed => "unpack it first",
            Content::Gguf | Content::Ggml => "open it with llama.cpp",
            Content::Npy => "open it with NumPy",
            _ => "check that this is the file you want",
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::Torch(format) => return write!(f, "a PyTorch file ({format})"),
            Content::Empty => "an empty file",
            Content::Zeros => "nothing but zero bytes",
            Content::Safetensors => "a safetensors file",
            Content::Gguf => "a GGUF model",
            Content::Ggml => "a GGML model",
            Content::Html => "an HTML page",
            Content::XmlOrJson => "an XML or JSON text",
            Content::LfsPointer => "a Git LFS pointer",
            Content::Gzip => "a gzip stream",
            Content::Compressed => "a compressed archive",
            Content::Hdf5 => "an HDF5 file",
            Content::Npy => "a NumPy array",
            Content::Onnx => "an ONNX model",
            Content::TfLite => "a TensorFlow Lite model",
            Content::Executable => "a program",
            Content::Media => "a document or image",
            Content::Text => "a text",
            Content::Unknown => "bytes of no known format",
        })
    }
}

const MAGICS: &[(&[u8], Content)] = &[
    (b"GGUF", Content::Gguf),
    (b"lmgg", Content::Ggml),
    (b"fmgg", Content::Ggml),
    (b"tjgg", Content::Ggml),
    (b"version https://git-lfs", Content::LfsPointer),
    (b"\x1f\x8b", Content::Gzip),
    (b"BZh", Content::Compressed),
    (b"\xfd7zXZ\0", Content::Compressed),
    (b"\x28\xb5\x2f\xfd", Content::Compressed),
    (b"7z\xbc\xaf\x27\x1c", Content::Compressed),
    (b"Rar!", Content::Compressed),
    (b"\x89HDF\r\n\x1a\n", Content::Hdf5),
    (b"\x93NUMPY", Content::Npy),
    (b"\x7fELF", Content::Executable),
    (b"MZ", Content::Executable),
    (b"%PDF", Content::Media),
    (b"\x89PNG", Content::Media),
    (b"\xff\xd8\xff", Content::Media),
];

fn torch(prefix: &[u8]) -> Option<Format> {
    if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"PK\x05\x06") {
        return Some(Format::Zip);
    }
    if prefix.get(257..262) == Some(b"ustar") || crate::container::tar::is_member(prefix) {
        return Some(Format::Tar);
    }
    // Protocols 2 and up announce themselves.
    matches!(prefix, [0x80, 2..=5, ..]).then(|| pickle_format(prefix))
}

/// Legacy files begin with a pickle too, of a magic number.
fn pickle_format(prefix: &[u8]) -> Format {
    match legacy::begins_with_magic(prefix) {
        true => Format::Legacy,
        false => Format::Pickle,
    }
}

/// Pickles of protocol 0 and 1 have no magic number, so texts are ruled out first.
fn plain_pickle(prefix: &[u8]) -> Option<Content> {
    pickle::plausible(prefix).then(|| Content::Torch(pickle_format(prefix)))
}

fn is_safetensors(prefix: &[u8]) -> bool {
    let Some((len, rest)) = prefix.split_first_chunk::<8>() else {
        return false;
    };
    let len = u64::from_le_bytes(*len);
    (2..=100_000_000).contains(&len)
        && rest
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|&byte| byte == b'{')
}

/// A protobuf whose first field is the IR version and whose second is a producer name.
fn is_onnx(prefix: &[u8]) -> bool {
    matches!(prefix, [0x08, 1..=32, 0x12, len, rest @ ..]
        if rest.iter().take(usize::from(*len)).all(u8::is_ascii_graphic))
}

fn text(prefix: &[u8]) -> Option<Content> {
    let start = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
    let start = start.trim_ascii_start();
    let lower: Vec<u8> = start.iter().take(64).map(u8::to_ascii_lowercase).collect();
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        return Some(Content::Html);
    }
    if lower.starts_with(b"<?xml") || lower.starts_with(b"<error") || lower.starts_with(b"{\"") {
        return Some(Content::XmlOrJson);
    }
    if lower.starts_with(b"<") && is_readable(prefix) {
        return Some(Content::Html);
    }
    if is_readable(prefix) && !pickle::plausible(prefix) {
        return Some(Content::Text);
    }
    None
}

fn is_readable(prefix: &[u8]) -> bool {
    prefix
        .iter()
        .all(|&byte| byte >= 0x20 || matches!(byte, b'\n' | b'\r' | b'\t'))
        && match std::str::from_utf8(prefix) {
            Ok(_) => true,
            // The prefix may end within a character.
            Err(error) => error.error_len().is_none(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_not_torch() {
        let safetensors = b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ";
        let cases: [(&[u8], Content); 12] = [
            (b"", Content::Empty),
            (b"\0\0\0\0\0\0\0\0\0\0", Content::Zeros),
            (safetensors, Content::Safetensors),
            (b"GGUF\x03\0\0\0", Content::Gguf),
            (b"<!DOCTYPE html><html>", Content::Html),
            (b"\n  <HTML lang=en>", Content::Html),
            (b"<?xml version=\"1.0\"?><Error>", Content::XmlOrJson),
            (b"{\"error\":\"not found\"}", Content::XmlOrJson),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                Content::LfsPointer,
            ),
            (b"\x1f\x8b\x08\0", Content::Gzip),
            (b"\x08\x07\x12\x07pytorch", Content::Onnx),
            (b"Entry not found", Content::Text),
        ];
        for (bytes, expected) in cases {
            assert_eq!(identify(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn tells_the_formats() {
        let cases: [(&[u8], Format); 5] = [
            (b"PK\x03\x04", Format::Zip),
            (
                b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
                Format::Legacy,
            ),
            (b"\x80\x02}q\0.", Format::Pickle),
            (b"\x80\x05\x95\x10\0\0\0\0\0\0\0}", Format::Pickle),
            (b"(dp0\nS'a'\np1\nI1\ns.", Format::Pickle),
        ];
        for (bytes, expected) in cases {
            assert_eq!(detect(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
        let mut tar = vec![0; 512];
        tar[..8].copy_from_slice(b"sys_info");
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(detect(&tar), Some(Format::Tar));
    }
}
