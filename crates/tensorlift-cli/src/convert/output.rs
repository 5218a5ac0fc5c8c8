use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tensorlift::Result;

use super::error::ConvertError;
use crate::target::folder_of;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Safetensors,
    Torch,
}

/// Where it is written.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    format: Format,
    is_file: bool,
}

impl Format {
    /// The file name endings of single files.
    const fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Safetensors => &["safetensors"],
            Format::Torch => &["pt", "pth", "ckpt", "bin"],
        }
    }

    /// The name before the number and the end of it, as `transformers` has them.
    const fn name_parts(self) -> (&'static str, &'static str) {
        match self {
            Format::Safetensors => ("model", "safetensors"),
            Format::Torch => ("pytorch_model", "bin"),
        }
    }

    pub(super) fn shard_name(self, number: usize, count: usize) -> String {
        let (stem, ending) = self.name_parts();
        match count {
            1 => format!("{stem}.{ending}"),
            _ => format!("{stem}-{number:05}-of-{count:05}.{ending}"),
        }
    }

    pub(super) const fn index_name(self) -> &'static str {
        match self {
            Format::Safetensors => "model.safetensors.index.json",
            Format::Torch => "pytorch_model.bin.index.json",
        }
    }

    /// Whether a conversion to this format writes files of this name.
    fn is_own_name(self, name: &str) -> bool {
        let (stem, ending) = self.name_parts();
        let numbers = name
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_suffix(ending)?.strip_suffix('.'));
        let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
        name == self.index_name()
            || numbers.is_some_and(|numbers| {
                let pair = numbers
                    .strip_prefix('-')
                    .and_then(|pair| pair.split_once("-of-"));
                numbers.is_empty() || pair.is_some_and(|(a, b)| is_number(a) && is_number(b))
            })
    }
}

/// Endings of weights that we do not write.
const FOREIGN: [&str; 12] = [
    "gguf", "ggml", "onnx", "npz", "npy", "h5", "hdf5", "msgpack", "pkl", "pickle", "pb", "tflite",
];

/// Refuses the ending of a foreign format, and one that is nearly ours; any other is a part of a
/// folder's name, as in `model-v1.5`.
fn check_ending(path: &Path, ending: &str) -> Result<()> {
    let path = || path.to_owned();
    if FOREIGN.contains(&ending) {
        return Err(ConvertError::Foreign(path()).into());
    }
    let ours = Format::Safetensors
        .endings()
        .iter()
        .chain(Format::Torch.endings());
    let is_near = |own: &&&str| {
        // Of short endings, a letter makes another word.
        let most = match own.len() {
            0..4 => 0,
            4 => 1,
            _ => 3,
        };
        strsim::damerau_levenshtein(own, ending) <= most
    };
    match ours.clone().find(is_near) {
        Some(near) => Err(ConvertError::NearMiss { path: path(), near })?,
        None => Ok(()),
    }
}

impl Output {
    /// Decides the format by the path's ending, unless it is given.
    pub(super) fn choose(path: &Path, to: Option<Format>, sharded: bool) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let ending = ending.map(str::to_ascii_lowercase);
        let has = |format: &Format| {
            ending
                .as_deref()
                .is_some_and(|ending| format.endings().contains(&ending))
        };
        let told = [Format::Safetensors, Format::Torch].into_iter().find(has);
        let format = to.or(told).unwrap_or(Format::Safetensors);
        let path = path.to_owned();
        if let (None, Some(ending)) = (told, ending.as_deref()) {
            check_ending(&path, ending)?;
        }
        match told {
            Some(told) if told != format => Err(ConvertError::Ending { path, format })?,
            Some(_) if sharded => Err(ConvertError::ShardsInFile(path))?,
            _ => Ok(Self {
                path,
                format,
                is_file: told.is_some(),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Whether the path is that of the one file, not of a folder.
    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// The folder that the path is in.
    pub(super) fn parent(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Refuses what exists, or what cannot be replaced by what is written.
    pub(super) fn check_free(&self, force: bool) -> Result<()> {
        if !self.parent().is_dir() {
            return Err(ConvertError::NoFolder(self.parent().to_owned()))?;
        }
        // A link counts as what it leads to; one that leads nowhere is there all the same.
        if fs::symlink_metadata(&self.path).is_err() {
            return Ok(());
        }
        let path = self.path.clone();
        if !force {
            return Err(ConvertError::Exists(path))?;
        }
        let (expected, found) = match (self.is_file, path.is_dir()) {
            (true, true) => ("a file", "a folder"),
            (false, false) => ("a folder", "a file"),
            _ => return Ok(()),
        };
        Err(ConvertError::Place {
            path,
            expected,
            found,
        })?
    }

    /// Refuses to replace a file that the tensors are read from.
    pub(super) fn check_inputs<'p>(
        &self,
        names: &[&str],
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        let real = |path: &Path| fs::canonicalize(path).ok();
        let mut replaced: Vec<PathBuf> = names.iter().map(|name| self.place_of(name)).collect();
        replaced.extend(self.stale(names));
        let replaced: Vec<_> = replaced.iter().filter_map(|path| real(path)).collect();
        for input in inputs {
            if real(input).is_some_and(|input| replaced.contains(&input)) {
                return Err(ConvertError::Input(input.to_owned()))?;
            }
        }
        Ok(())
    }

    /// Where the file of this name ends up.
    pub(super) fn place_of(&self, name: &str) -> PathBuf {
        match self.is_file {
            true => self.path.clone(),
            false => self.path.join(name),
        }
    }

    /// Weights of an earlier conversion that could be mistaken for some of this one.
    pub(super) fn stale(&self, names: &[&str]) -> Vec<PathBuf> {
        let entries = match self.is_file {
            true => return Vec::new(),
            false => fs::read_dir(&self.path).into_iter().flatten(),
        };
        let is_stale = |name: &str| self.format.is_own_name(name) && !names.contains(&name);
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_stale))
            .map(|entry| entry.path())
            .collect()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Safetensors => "safetensors",
            Format::Torch => "PyTorch",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(path: &str, to: Option<Format>, sharded: bool) -> Option<(Format, bool)> {
        let output = Output::choose(Path::new(path), to, sharded).ok()?;
        Some((output.format(), output.is_file()))
    }

    #[test]
    fn the_path_tells_format_and_form() {
        let (safetensors, torch) = (Format::Safetensors, Format::Torch);
        assert_eq!(
            choose("a.safetensors", None, false),
            Some((safetensors, true))
        );
        assert_eq!(choose("a/b.PT", None, false), Some((torch, true)));
        assert_eq!(choose("model-v1.5", None, true), Some((safetensors, false)));
        assert_eq!(choose("out/", Some(torch), true), Some((torch, false)));
        assert_eq!(choose("a.bin", Some(safetensors), false), None);
        assert_eq!(choose("a.safetensors", Some(torch), false), None);
        assert_eq!(choose("a.safetensors", None, true), None);
        for path in ["a.gguf", "a.ONNX", "a.npz", "a.h5", "a.msgpack", "a.pkl"] {
            assert_eq!(choose(path, None, false), None, "{path}");
            assert_eq!(choose(path, Some(safetensors), false), None, "{path}");
        }
        for path in [
            "a.safetensor",
            "a.saftensors",
            "a.safetensrs",
            "a.ckp",
            "a.cpkt",
        ] {
            assert_eq!(choose(path, None, false), None, "{path}");
        }
        for path in ["model.q4", "v1.5", "x.converted", "a.b.c", "net.new"] {
            assert_eq!(
                choose(path, None, false),
                Some((safetensors, false)),
                "{path}"
            );
        }
    }

    #[test]
    fn own_names_are_told_from_others() {
        for count in [1, 3] {
            let name = Format::Torch.shard_name(1, count);
            assert!(Format::Torch.is_own_name(&name), "{name}");
            assert!(!Format::Safetensors.is_own_name(&name), "{name}");
        }
        for name in [
            "model.fp16.safetensors",
            "modelsafetensors",
            "model-1-of-2.safetensors",
            "model-00001-of-.safetensors",
            "config.json",
        ] {
            assert!(!Format::Safetensors.is_own_name(name), "{name}");
        }
    }
}
