//! Recognises files that are not checkpoints, or are damaged ones.
//!
//! The error and its remedy follow from the beginning and the end of the file, and from the names
//! within an archive. This is the only place that knows other formats.

mod explain;
mod identify;

use std::fmt;
use std::path::Path;

use tensorlift_tensor_meta::{Error, ErrorKind};

#[cfg(feature = "torch")]
pub(crate) use explain::explain;
pub(crate) use explain::sniff;
pub(crate) use identify::{identify, prefix};

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
    /// This many other bytes, and a zip archive behind them.
    ZipBehind(u64),
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
            Foreign::ZipBehind(_) => (
                Malformed,
                "cut off the bytes before the archive: `tail -c +OFFSET+1 FILE`",
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
            Foreign::ZipWithoutBeginning => {
                "a zip archive whose beginning is missing or overwritten"
            }
            Foreign::ZipBehind(bytes) => {
                return write!(
                    f,
                    "a zip archive that begins at byte {bytes}, behind other bytes"
                );
            }
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
