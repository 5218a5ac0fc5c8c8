//! Formats by the bytes at the beginning and the end of a file.

use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::Foreign;
use crate::formats::torch;

/// The bytes at the beginning of a file that every format is recognised by.
const PREFIX_BYTES: usize = 1024;
/// How much of a file's end is searched for bytes that are not zero.
const MOST_TAIL_BYTES: u64 = 256 << 20;

const MAGICS: [(&[u8], Foreign); 18] = [
    (b"GGUF", Foreign::Gguf),
    (b"lmgg", Foreign::Ggml),
    (b"fmgg", Foreign::Ggml),
    (b"tjgg", Foreign::Ggml),
    (b"version https://git-lfs", Foreign::LfsPointer),
    (b"\x1f\x8b", Foreign::Gzip),
    (b"BZh", Foreign::Compressed),
    (b"\xfd7zXZ\0", Foreign::Compressed),
    (b"\x28\xb5\x2f\xfd", Foreign::Compressed),
    (b"7z\xbc\xaf\x27\x1c", Foreign::Compressed),
    (b"Rar!", Foreign::Compressed),
    (b"\x89HDF\r\n\x1a\n", Foreign::Hdf5),
    (b"\x93NUMPY", Foreign::Npy),
    (b"\x7fELF", Foreign::Executable),
    (b"MZ", Foreign::Executable),
    (b"%PDF", Foreign::Media),
    (b"\x89PNG", Foreign::Media),
    (b"\xff\xd8\xff", Foreign::Media),
];

/// The kind of a file that begins with `prefix` and is neither safetensors nor PyTorch.
pub(crate) fn identify(prefix: &[u8], storage: &dyn Storage) -> Foreign {
    if prefix.is_empty() {
        return Foreign::Empty;
    }
    if let Some(known) = by_prefix(prefix) {
        return known;
    }
    if prefix.iter().take(16).all(|&byte| byte == 0) {
        let first = zeros(storage, false);
        return match first == storage.len() {
            true => Foreign::Zeros,
            false => Foreign::ZerosFirst(first),
        };
    }
    match torch::bytes_before_zip(storage) {
        Some(bytes) => Foreign::ZipBehind(bytes),
        None if torch::ends_like_zip(storage) => Foreign::ZipWithoutBeginning,
        None => Foreign::Unknown,
    }
}

pub(super) fn by_prefix(prefix: &[u8]) -> Option<Foreign> {
    let known = MAGICS.iter().find(|(magic, _)| prefix.starts_with(magic));
    if let Some((_, known)) = known {
        return Some(known.clone());
    }
    if prefix.get(4..8) == Some(b"TFL3") {
        return Some(Foreign::TfLite);
    }
    // A protobuf whose first field is the IR version and whose second is a producer name.
    let is_onnx = matches!(prefix, [0x08, 1..=32, 0x12, len, rest @ ..]
        if rest.iter().take(usize::from(*len)).all(u8::is_ascii_graphic));
    is_onnx.then_some(Foreign::Onnx).or_else(|| text(prefix))
}

fn text(prefix: &[u8]) -> Option<Foreign> {
    let is_printed = |&byte: &u8| byte >= 0x20 || matches!(byte, b'\n' | b'\r' | b'\t');
    let is_text = match std::str::from_utf8(prefix) {
        Ok(_) => true,
        // The prefix may end within a character.
        Err(error) => error.error_len().is_none(),
    };
    let start = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
    let start = start.trim_ascii_start();
    let lower: Vec<u8> = start.iter().take(64).map(u8::to_ascii_lowercase).collect();
    let begins = |text: &str| lower.starts_with(text.as_bytes());
    let is_text = is_text && prefix.iter().all(is_printed);
    Some(match () {
        () if begins("<!doctype html") || begins("<html") => Foreign::Html,
        () if begins("<?xml") || begins("<error") || begins("{\"") => Foreign::XmlOrJson,
        () if begins("<") && is_text => Foreign::Html,
        () if is_text => Foreign::Text,
        () => return None,
    })
}

/// The number of zeros at the beginning or the end of a file, within the searched part.
pub(super) fn zeros(storage: &dyn Storage, at_end: bool) -> u64 {
    let len = storage.len();
    let most = len.min(MOST_TAIL_BYTES);
    let mut block = vec![0; 64 << 10];
    let mut count = 0;
    while count < most {
        let step = (most - count).min(block.len() as u64);
        let block = &mut block[..step as usize];
        let at = if at_end { len - count - step } else { count };
        if storage.read_exact_at(at, block).is_err() {
            break;
        }
        let is_set = |&byte: &u8| byte != 0;
        let other = match at_end {
            true => block.iter().rev().position(is_set),
            false => block.iter().position(is_set),
        };
        match other {
            Some(position) => return count + position as u64,
            None => count += step,
        }
    }
    count
}

/// The first bytes of a file.
pub(crate) fn prefix(storage: &dyn Storage) -> Result<Vec<u8>, Error> {
    let mut prefix = vec![0; storage.len().min(PREFIX_BYTES as u64) as usize];
    storage
        .read_exact_at(0, &mut prefix)
        .map_err(|error| Error::new(ErrorKind::Storage, error))?;
    Ok(prefix)
}
