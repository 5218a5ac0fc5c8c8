//! Recognises files that are not checkpoints, or are damaged ones.
//!
//! The error and its remedy follow from the beginning and the end of the file, and from the names
//! within an archive. This is the only place
//! that knows other formats.

use std::fmt;
use std::path::Path;

use tensorlift_format_safetensors as safetensors;
use tensorlift_format_torchzip as torch;
use tensorlift_shard_index::Sniffed;
use tensorlift_storage::{FileStorage, Storage, StorageExt};
use tensorlift_tensor_meta::{Error, ErrorKind};

use crate::archive::{self, Archive};

/// The bytes at the beginning of a file that every format is recognised by.
pub(crate) const PREFIX_BYTES: usize = 1024;
/// How much of a file's end is searched for bytes that are not zero.
const MOST_TAIL_BYTES: u64 = 256 << 20;
/// The fewest zeros at the end of a file that count as damage.
const TAIL_BYTES: u64 = 64;
/// Names that a message shows of an archive.
const SHOWN_NAMES: usize = 4;

/// A file other than a checkpoint that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Empty,
    /// Nothing but zeros.
    Zeros,
    /// This many zeros, then other bytes.
    ZerosFirst(u64),
    /// A correct beginning, and this many zeros at the end.
    ZerosLast(u64),
    /// The end of a zip archive without its beginning.
    ZipWithoutBeginning,
    Gguf,
    /// llama.cpp's formats before GGUF.
    Ggml,
    Html,
    /// A message of a web service.
    XmlOrJson,
    /// A Git LFS pointer in place of the file.
    LfsPointer,
    Gzip,
    /// bzip2, xz, zstd, 7z or rar.
    Compressed,
    Hdf5,
    Npy,
    /// A zip archive of NumPy arrays.
    Npz,
    Onnx,
    TfLite,
    /// A file of `torch.distributed.checkpoint`: pieces of tensors.
    Distributed,
    /// A zip archive that `torch.export` wrote.
    Export,
    /// A zip archive that `torch.package` wrote.
    Package,
    /// A tar archive of other files.
    Tar(Vec<String>),
    /// A zip archive of other files.
    Zip(Vec<String>),
    Executable,
    /// A PDF document or an image.
    Media,
    Text,
    Unknown,
}

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
    match archive::zip_end(storage) {
        Some(_) => Foreign::ZipWithoutBeginning,
        None => Foreign::Unknown,
    }
}

fn by_prefix(prefix: &[u8]) -> Option<Foreign> {
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

/// Replaces the error of a file that begins like a checkpoint, if the rest of the file shows the
/// cause.
pub(crate) fn explain(storage: &dyn Storage, path: &Path, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) {
        return error;
    }
    let is_piece = path.extension().is_some_and(|end| end == "distcp");
    let found = match archive::read(storage) {
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

/// The number of zeros at the beginning or the end of a file, within the searched part.
fn zeros(storage: &dyn Storage, at_end: bool) -> u64 {
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
        Some(torch::Format::Zip | torch::Format::Tar) => match archive::read(&storage) {
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
        Some(torch::Format::Legacy) => Sniffed::Torch,
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

/// Whether a name contains an extension of checkpoints, possibly before others.
fn has_weights_in(name: &str) -> bool {
    let ends = [
        "safetensors",
        "bin",
        "pt",
        "pth",
        "ckpt",
        "pkl",
        "pickle",
        "th",
        "t7",
        "ot",
        "tar",
        "tgz",
    ];
    name.split('.').skip(1).any(|part| ends.contains(&part))
}

/// The first bytes of a file.
pub(crate) fn prefix(storage: &dyn Storage) -> Result<Vec<u8>, Error> {
    let mut prefix = vec![0; storage.len().min(PREFIX_BYTES as u64) as usize];
    storage
        .read_exact_at(0, &mut prefix)
        .map_err(|error| Error::new(ErrorKind::Storage, error))?;
    Ok(prefix)
}

/// A file that is not what its name promises.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, found {found}")]
struct ForeignFile {
    expected: &'static str,
    found: Foreign,
}

impl Foreign {
    /// The error for such a file.
    pub(crate) fn error(self, path: &Path) -> Error {
        let extension = path.extension().and_then(|end| end.to_str());
        let expected = match extension {
            Some("safetensors") => "a safetensors file",
            Some("bin" | "pt" | "pth" | "ckpt") => "a PyTorch checkpoint",
            _ => "a safetensors or PyTorch file",
        };
        let (kind, remedy) = self.kind_and_remedy();
        let found = self;
        Error::new(kind, ForeignFile { expected, found }).with_remedy(remedy)
    }

    fn kind_and_remedy(&self) -> (ErrorKind, &'static str) {
        use ErrorKind::{Malformed, Unsupported};
        let holds_weights = |names: &[String]| names.iter().any(|name| has_weights_in(name));
        match self {
            Foreign::Empty
            | Foreign::Zeros
            | Foreign::ZerosFirst(_)
            | Foreign::ZerosLast(_)
            | Foreign::ZipWithoutBeginning
            | Foreign::Html
            | Foreign::XmlOrJson => (
                Malformed,
                "the download or copy failed: fetch the file again",
            ),
            Foreign::LfsPointer => (Malformed, "fetch the real file with `git lfs pull`"),
            Foreign::Gguf | Foreign::Ggml => (
                Unsupported,
                "fetch the model's safetensors or PyTorch files, or open it with llama.cpp",
            ),
            Foreign::Gzip | Foreign::Compressed => (Unsupported, "unpack it first"),
            Foreign::Npy | Foreign::Npz => (Unsupported, "open it with NumPy"),
            Foreign::Distributed => (
                Unsupported,
                "make one file of its folder: python -m \
                 torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER OUT.pt",
            ),
            Foreign::Export => (
                Unsupported,
                "save its weights: torch.save(torch.export.load(FILE).state_dict, OUT.pt)",
            ),
            Foreign::Package => (
                Unsupported,
                "load it with torch.package, and save the model's state dict",
            ),
            Foreign::Tar(names) if holds_weights(names) => (
                Unsupported,
                "unpack it (tar -xf FILE), and name what was in it",
            ),
            Foreign::Zip(names) if holds_weights(names) => (
                Unsupported,
                "unpack it (unzip FILE), and name what was in it",
            ),
            Foreign::Hdf5 | Foreign::Onnx | Foreign::TfLite => (
                Unsupported,
                "fetch the model's safetensors or PyTorch files, or save it as such",
            ),
            _ => (Malformed, "check that this is the right file"),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Empty => "an empty file",
            Foreign::Zeros => "nothing but zero bytes",
            Foreign::ZerosFirst(zeros) => {
                return write!(f, "a file that begins with {zeros} zero bytes");
            }
            Foreign::ZerosLast(zeros) => {
                return write!(f, "a file whose last {zeros} bytes are zero");
            }
            Foreign::ZipWithoutBeginning => "a zip archive whose beginning is missing",
            Foreign::Gguf => "a GGUF model",
            Foreign::Ggml => "a GGML model",
            Foreign::Html => "an HTML page",
            Foreign::XmlOrJson => "an XML or JSON text",
            Foreign::LfsPointer => "a Git LFS pointer",
            Foreign::Gzip => "a gzip stream",
            Foreign::Compressed => "a compressed archive",
            Foreign::Hdf5 => "an HDF5 file",
            Foreign::Npy => "a NumPy array",
            Foreign::Npz => "an archive of NumPy arrays",
            Foreign::Onnx => "an ONNX model",
            Foreign::TfLite => "a TensorFlow Lite model",
            Foreign::Distributed => {
                "a piece of a distributed checkpoint (torch.distributed.checkpoint)"
            }
            Foreign::Export => "a torch.export archive (.pt2)",
            Foreign::Package => "a torch.package archive",
            Foreign::Tar(names) => return write_holding(f, "a tar archive", names),
            Foreign::Zip(names) => return write_holding(f, "a zip archive", names),
            Foreign::Executable => "a program",
            Foreign::Media => "a document or image",
            Foreign::Text => "a text",
            Foreign::Unknown => "bytes of no known format",
        })
    }
}

fn write_holding(f: &mut fmt::Formatter<'_>, what: &str, names: &[String]) -> fmt::Result {
    // Names of weights first: these can be loaded.
    let (mut names, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| has_weights_in(name));
    names.extend(others);
    if names.is_empty() {
        return write!(f, "{what} that holds nothing");
    }
    write!(f, "{what} that holds ")?;
    for (position, name) in names.iter().take(SHOWN_NAMES).enumerate() {
        let separator = if position > 0 { ", " } else { "" };
        write!(f, "{separator}{name:?}")?;
    }
    match names.len().saturating_sub(SHOWN_NAMES) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
