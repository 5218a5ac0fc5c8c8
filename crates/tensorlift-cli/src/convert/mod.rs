//! Converts a checkpoint of any format to safetensors, or to a PyTorch file.

mod companions;
mod contents;
mod error;
mod output;
mod quantized;
mod safetensors;
mod shards;
mod staging;
mod torch;
mod writing;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use serde::Serialize;
use tensorlift::{
    Bytes, Checkpoint, DtypePolicy, Entry, Error, ErrorKind, LoadOptions, Pattern, Verify,
    parse_size,
};

use self::contents::{Contents, Ties};
use self::error::ConvertError;
use self::output::{Format, Output};
use self::shards::Shard;
use self::staging::Staging;
pub(crate) use self::staging::replace;
use self::writing::Writing;
use crate::failure::Failure;
use crate::interrupt;
use crate::table::{counted, printable};
use crate::target::{Target, root_hint};

#[derive(Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Convert {
    #[command(flatten)]
    target: Target,
    /// The file to write if it ends in .safetensors, .pt, .pth, .ckpt or .bin, otherwise a folder
    out: PathBuf,
    /// The format to write; by default decided by the ending of OUT, and safetensors for folders
    #[arg(long, value_enum)]
    to: Option<Format>,
    /// Split a folder's weights into files of at most this size, such as 5GB or 500MiB
    #[arg(long, value_name = "SIZE", value_parser = shard_size)]
    shard_size: Option<NonZero<u64>>,
    /// Convert floats to f64, f32, f16 or bf16; those that are quantized keep theirs
    #[arg(long, value_name = "DTYPE", default_value = "keep")]
    dtype: DtypePolicy,
    /// Store tensors under another name, as in model.*=*: each * of the first pattern stands for
    /// what goes in place of one of the second; the first that matches a name decides; may be given
    /// several times
    #[arg(long, value_name = "FROM=TO", value_parser = Rename::parse)]
    rename: Vec<Rename>,
    /// Store tensors that share their bytes under this name, not under the first of the file; may
    /// be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "keep_all")]
    keep: Vec<String>,
    /// Store tensors that share their bytes under each of their names; in safetensors files each
    /// takes space
    #[arg(long)]
    keep_all: bool,
    /// Check the CRC-32 of archive entries while reading; --verify=false converts files that have
    /// wrong ones
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    verify: bool,
    /// Replace OUT if it exists; of a folder, the weights that a conversion writes
    #[arg(long)]
    force: bool,
    /// Print what was written as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was written.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Written<'a> {
    format: Format,
    /// Those stored; names that share the bytes of another are not counted.
    tensors: usize,
    /// Of all tensors, without what the format adds.
    bytes: u64,
    files: Vec<PathBuf>,
    /// Configuration, tokenizer and the like that came along.
    companions: Vec<PathBuf>,
    /// Further names of stored tensors, each with the name under which they are stored.
    tied: BTreeMap<&'a str, &'a str>,
    /// The path that was cut off all names.
    root: &'a str,
    /// The most memory that the process took, where the system tells.
    peak_memory_bytes: u64,
}

impl Convert {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        self.convert(out).map_err(|failure| match failure {
            // A load that is cancelled knows nothing of files that are written.
            Failure::Checkpoint(error) if error.kind() == ErrorKind::Cancelled => {
                interrupt::interrupted().into()
            }
            other => other,
        })
    }

    fn convert(&self, out: &mut impl Write) -> Result<(), Failure> {
        let output = Output::choose(&self.out, self.to, self.shard_size.is_some())?;
        output.check_free(self.force)?;
        let checkpoint = self.renamed(self.target.open()?)?;
        if let Some(hint) = root_hint(&checkpoint) {
            eprintln!("note: {hint}");
        }
        checkpoint.require_tensors()?;
        let contents = Contents::survey(&checkpoint, output.format(), &self.ties(), &self.dtype)?;
        let shards = shards::split(
            &contents,
            self.shard_size.map(NonZero::get),
            output.format(),
        );
        let names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        output.check_inputs(&names, checkpoint.files())?;

        let cancel = interrupt::token();
        let staging = Staging::begin(&output)?;
        let writing = Writing::new(contents.bytes, cancel, self.options());
        for shard in &shards {
            let path = staging.path(&shard.name);
            match output.format() {
                Format::Safetensors => {
                    safetensors::write(&checkpoint, shard, &contents, &path, &writing)?;
                }
                Format::Torch => torch::write(&checkpoint, shard, &path, &writing)?,
            }
        }
        if shards.len() > 1 {
            let index = shards::index(&shards, output.format())?;
            staging.write(output.format().index_name(), &index)?;
        }
        let mut companions = Vec::new();
        if !output.is_file() {
            let folder = checkpoint.folder();
            for name in companions::companions(&checkpoint)? {
                companions.extend(staging.take_along(&folder, &name, &output)?);
            }
        }
        writing.wrote(0)?;
        drop(writing);
        let mut files = staging.commit(&output, self.force)?;
        files.retain(|file| !companions.contains(file));
        let written = Written {
            format: output.format(),
            tensors: contents.items.len(),
            bytes: contents.bytes,
            files,
            companions,
            tied: contents.tied(),
            root: checkpoint.current_root(),
            peak_memory_bytes: tensorlift::os::memory().peak,
        };
        if self.json {
            serde_json::to_writer(&mut *out, &written)?;
            writeln!(out)?;
        } else {
            written.describe(&shards, out)?;
        }
        Ok(())
    }
}

impl Convert {
    /// The checkpoint with the names that were asked for.
    fn renamed(&self, checkpoint: Checkpoint) -> tensorlift::Result<Checkpoint> {
        if self.rename.is_empty() {
            return Ok(checkpoint);
        }
        let matches_none = |rename: &&Rename| {
            let mut names = checkpoint.catalog().entries().iter().map(Entry::name);
            !names.any(|name| rename.apply(name).is_some())
        };
        if let Some(rename) = self.rename.iter().find(matches_none) {
            return Err(ConvertError::NoMatch(rename.from.as_str().to_owned()).into());
        }
        let new_name = |entry: &Entry| {
            let name = entry.name();
            let renamed = self.rename.iter().find_map(|rename| rename.apply(name));
            Some(renamed.unwrap_or_else(|| name.to_owned()))
        };
        let renamed = checkpoint.renamed(new_name);
        renamed.map_err(|error| error.with_remedy("give each tensor another name"))
    }

    fn options(&self) -> LoadOptions {
        let verify = match self.verify {
            true => Verify::Crc32,
            false => Verify::Nothing,
        };
        let options = LoadOptions::default().dtype(self.dtype.clone());
        options.verify(verify)
    }

    fn ties(&self) -> Ties<'_> {
        match self.keep_all {
            true => Ties::All,
            false => Ties::One { kept: &self.keep },
        }
    }
}

/// Names that match one pattern become those of another.
#[derive(Clone, Debug)]
struct Rename {
    from: Pattern,
    to: Pattern,
}

impl Rename {
    fn parse(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once('=')
            .ok_or("expected FROM=TO, as in model.*=*")?;
        let (from, to) = (Pattern::new(from), Pattern::new(to));
        match from.wildcards() == to.wildcards() {
            true => Ok(Self { from, to }),
            false => Err("expected as many * on both sides".to_owned()),
        }
    }

    fn apply(&self, name: &str) -> Option<String> {
        Some(self.to.expand(&self.from.captures(name)?))
    }
}

fn shard_size(text: &str) -> Result<NonZero<u64>, String> {
    let bytes = parse_size(text).ok().and_then(NonZero::new);
    bytes.ok_or_else(|| "expected a size above 0, as in 5GB, 500MiB or 4096".to_owned())
}

/// A refusal of the disk.
fn on_disk(error: io::Error, path: &Path) -> Error {
    let remedy = remedy(&error).unwrap_or(CHECK_DISK);
    Error::new(ErrorKind::Storage, error)
        .with_path(path)
        .with_remedy(remedy)
}

/// An error of a format's writer: a refusal of the disk, if that is its cause.
fn on_writing<E>(path: &Path) -> impl Fn(E) -> Error
where
    E: std::error::Error + Send + Sync + Into<Error> + 'static,
{
    move |error| {
        let error = match remedy(&error) {
            Some(remedy) => Error::new(ErrorKind::Storage, error).with_remedy(remedy),
            None => error.into(),
        };
        error.with_path(path)
    }
}

const CHECK_DISK: &str = "check the disk and the permissions";

/// What to do about the refusal of the system that caused an error, if one did.
fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    let refusals = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    // The innermost has the system's code.
    let refusal = refusals.last()?;
    Some(match refusal.kind() {
        _ if lacks_descriptors(refusal) => "allow more open files (ulimit -n)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk, or choose another"
        }
        io::ErrorKind::FileTooLarge => {
            "allow larger files (ulimit -f), choose another disk, or use --shard-size"
        }
        _ => CHECK_DISK,
    })
}

/// Whether the process or the system has no descriptor left: EMFILE or ENFILE.
fn lacks_descriptors(refusal: &io::Error) -> bool {
    // Errors of temporary files keep the system's code in their text alone.
    let says = |code| refusal.to_string().contains(code);
    cfg!(unix)
        && match refusal.raw_os_error() {
            Some(code) => matches!(code, 23 | 24),
            None => says("(os error 23)") || says("(os error 24)"),
        }
}

impl Written<'_> {
    fn describe(&self, shards: &[Shard<'_>], out: &mut impl Write) -> std::io::Result<()> {
        for file in &self.files {
            writeln!(out, "{}", printable(&file.display().to_string()))?;
        }
        write!(
            out,
            "{}, {} in {}",
            counted(self.tensors, "tensor"),
            Bytes(self.bytes),
            counted(shards.len(), "file"),
        )?;
        if self.files.len() > shards.len() {
            write!(out, " and an index")?;
        }
        match self.companions.len() {
            0 => {}
            more => write!(out, "; {} came along", counted(more, "other file"))?,
        }
        let tied = self.tied.len();
        let what = match self.format {
            Format::Safetensors => "in the metadata",
            Format::Torch => "sharing a storage",
        };
        match tied {
            0 => writeln!(out),
            _ => writeln!(
                out,
                "; {} of tied tensors {what}",
                counted(tied, "further name")
            ),
        }
    }
}
