//! Recognises the layout of a file by its first bytes.

use super::{legacy, tar};
use crate::Format;
use crate::pickle;

/// Recognises the format of a PyTorch file by its first bytes, of which 1024 are enough; `None` for
/// any other file.
///
/// A zip or tar archive may still hold something other than a checkpoint.
///
/// ```
/// use tensorlift_format_torchzip::{Format, detect};
///
/// assert_eq!(detect(b"PK\x03\x04..."), Some(Format::Zip));
/// assert_eq!(detect(b"GGUF"), None);
/// ```
#[must_use]
pub fn detect(prefix: &[u8]) -> Option<Format> {
    if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"PK\x05\x06") {
        return Some(Format::Zip);
    }
    if prefix.get(257..262) == Some(b"ustar") || tar::is_member(prefix) {
        return Some(Format::Tar);
    }
    // Protocols 2 and later begin with a mark; for older ones, the first opcodes must be plausible.
    let is_pickle = matches!(prefix, [0x80, 2..=5, ..]) || pickle::plausible(prefix);
    is_pickle.then(|| match legacy::begins_with_magic(prefix) {
        true => Format::Legacy,
        false => Format::Pickle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_formats() {
        let cases: [(&[u8], Format); 6] = [
            (b"PK\x03\x04", Format::Zip),
            (b"PK\x05\x06", Format::Zip),
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

    #[test]
    fn other_files_are_none_of_them() {
        let cases: [&[u8]; 19] = [
            b"",
            &[0; 16],
            b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ",
            b"GGUF\x03\0\0\0N\0\0\0\0\0\0\0",
            b"<!DOCTYPE html><html>",
            b"\n  <HTML lang=en>",
            b"<?xml version=\"1.0\"?><Error>",
            b"{\"error\":\"not found\"}",
            b"version https://git-lfs.github.com/spec/v1\noid",
            b"\x1f\x8b\x08\0",
            b"BZh91AY&SY",
            b"\x28\xb5\x2f\xfd\x04\0",
            b"\x89HDF\r\n\x1a\n",
            b"\x89PNG\r\n\x1a\n",
            b"\x93NUMPY\x01\0v\0{'descr': '<f4'",
            b"\x08\x07\x12\x07pytorch",
            b"\x7fELF\x02\x01\x01",
            b"MZ\x90\0\x03\0\0\0",
            b"Entry not found",
        ];
        for bytes in cases {
            assert_eq!(detect(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
