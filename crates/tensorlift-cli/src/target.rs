//! Which checkpoint a command is about.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use tensorlift::settings::Settings;
use tensorlift::{Checkpoint, Entry, Error, ErrorKind, IndexUse, Limits, Pattern, Policy};

use crate::table::printable;

/// The checkpoint.
#[derive(Args)]
pub(crate) struct Target {
    /// A file, a folder, an index file, or a model in the Hugging Face cache (org/name[@revision])
    #[arg(required_unless_present = "files")]
    path: Option<PathBuf>,
    /// Load these files as one checkpoint, in this order, whatever their names; relative to PATH if
    /// that is given
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with_all = ["index", "no_index"])]
    files: Vec<PathBuf>,
    /// Use this index of the folder PATH, not the preferred one
    #[arg(long, value_name = "FILE", conflicts_with = "no_index")]
    index: Option<PathBuf>,
    /// Load the folder PATH as if it had no index
    #[arg(long)]
    no_index: bool,
    /// Load this variant of a folder, as in model.VARIANT.safetensors
    #[arg(long)]
    variant: Option<String>,
    /// Take the tensors below this path of a PyTorch file, named from there on; auto takes the path
    /// that is likely the model's
    #[arg(long, value_name = "PATH|auto")]
    root: Option<String>,
    /// Take only tensors whose names match, and leave out all others: a name, a module, or a
    /// pattern in which * stands for any characters; may be given several times
    #[arg(long, value_name = "PATTERN")]
    select: Vec<Pattern>,
    /// Reject PyTorch files with classes that are not plain data, or with bytes that no part of the
    /// format claims, instead of keeping the former as inert data and reporting the latter
    #[arg(long)]
    strict: bool,
    /// Raise or lower a ceiling for untrusted files, as in name_bytes=1000000
    ///
    /// Names: header_bytes, tensors, metadata_entries, rank, name_bytes, archive_entries,
    /// pickle_bytes, pickle_opcodes, pickle_objects, pickle_memo, pickle_depth,
    /// pickle_string_bytes, pickle_integer_bytes, expanded_nodes, description_bytes,
    /// inflated_bytes. The option may be given several times.
    #[arg(long = "limit", value_name = "NAME=NUMBER")]
    limits: Vec<Limit>,
}

/// A ceiling to set.
#[derive(Clone, Debug)]
struct Limit {
    name: String,
    value: u64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("expected NAME=NUMBER, as in name_bytes=1000000")?;
        let name = name.replace('-', "_");
        Limits::default().set(&name, 0)?;
        let value = value
            .parse()
            .map_err(|_| format!("expected a number, found {value:?}"))?;
        Ok(Self { name, value })
    }
}

impl Target {
    /// Opens it, and prints notes that may surprise the user to standard error.
    pub(crate) fn open(&self) -> tensorlift::Result<Checkpoint> {
        self.open_by(&Settings::default())
    }

    /// The same by settings.
    pub(crate) fn open_by(&self, settings: &Settings) -> tensorlift::Result<Checkpoint> {
        let checkpoint = self.open_quietly(settings)?;
        write_notes(&checkpoint);
        Ok(checkpoint)
    }

    fn open_quietly(&self, settings: &Settings) -> tensorlift::Result<Checkpoint> {
        let mut options = Checkpoint::options().settings(settings);
        if let Some(variant) = &self.variant {
            options = options.variant(variant);
        }
        if self.strict {
            options = options.policy(Policy::Strict);
        }
        if self.no_index {
            options = options.index(IndexUse::Ignore);
        }
        if let Some(index) = &self.index {
            options = options.index(IndexUse::File(index.clone()));
        }
        let mut limits = Limits::default();
        for limit in &self.limits {
            // The option was refused if there is no such ceiling.
            let _ = limits.set(&limit.name, limit.value);
        }
        options = options.limits(limits);
        let checkpoint = match &self.path {
            _ if !self.files.is_empty() => options.open_files(self.files()),
            path => options.open(path.as_deref().unwrap_or("".as_ref())),
        }?;
        selected(rooted(checkpoint, self.root.as_deref())?, &self.select)
    }

    /// The files, within the folder where they are there.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| {
            let within = self.path.as_ref().map(|folder| folder.join(file));
            let within = within.filter(|path| path.exists() || !file.exists());
            within.unwrap_or_else(|| file.clone())
        })
    }
}

/// Opens a checkpoint that is named by its path alone, and its tensors below a path in it.
pub(crate) fn open_path(path: &Path, root: Option<&str>) -> tensorlift::Result<Checkpoint> {
    let checkpoint = rooted(Checkpoint::open(path)?, root)?;
    write_notes(&checkpoint);
    Ok(checkpoint)
}

fn rooted(checkpoint: Checkpoint, root: Option<&str>) -> tensorlift::Result<Checkpoint> {
    match root {
        None => Ok(checkpoint),
        Some("auto") => {
            let root = checkpoint.automatic_root();
            match root.as_str() {
                "" => eprintln!("root: the file's own"),
                root => eprintln!("root: {}", printable(root)),
            }
            checkpoint.model()
        }
        Some(root) => checkpoint.root(root),
    }
}

/// The checkpoint with those tensors alone whose names match one of the patterns; with all, if
/// there is none.
fn selected(checkpoint: Checkpoint, patterns: &[Pattern]) -> tensorlift::Result<Checkpoint> {
    let names = || checkpoint.catalog().entries().iter().map(Entry::name);
    let fits_none = |pattern: &&Pattern| !names().any(|name| pattern.matches(name));
    let idle: Vec<&Pattern> = patterns.iter().filter(fits_none).collect();
    if !patterns.is_empty() && idle.len() == patterns.len() {
        return Err(no_match(&checkpoint, patterns));
    }
    for pattern in idle {
        eprintln!("note: no name matches {}", printable(pattern.as_str()));
    }
    matching(checkpoint, patterns)
}

/// The same, where it may be that no name matches.
pub(crate) fn matching(
    checkpoint: Checkpoint,
    patterns: &[Pattern],
) -> tensorlift::Result<Checkpoint> {
    if patterns.is_empty() {
        return Ok(checkpoint);
    }
    let matches = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
    checkpoint.renamed(|entry| {
        let name = entry.name();
        matches(name).then(|| name.to_owned())
    })
}

/// The error of patterns that match no name.
pub(crate) fn no_match(checkpoint: &Checkpoint, patterns: &[Pattern]) -> Error {
    let patterns: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    let found = format!("no name matches {}", patterns.join(", "));
    Error::new(ErrorKind::NotFound, found)
        .with_path(checkpoint.choice().chosen.clone())
        .with_remedy("`tensorlift inspect` lists the names")
}

fn write_notes(checkpoint: &Checkpoint) {
    for note in checkpoint.notes() {
        eprintln!("note: {}", printable(&note.to_string()));
    }
}

/// The hint where the model's own names likely begin, unless that was requested, and where those
/// of other models do.
pub(crate) fn root_hint(checkpoint: &Checkpoint) -> Option<String> {
    let root = checkpoint.automatic_root();
    let is_asked_for = !checkpoint.current_root().is_empty();
    if is_asked_for || root.is_empty() {
        return None;
    }
    let mut hint = format!("the model's own names are likely those below {root} (--root {root})");
    for (path, tensors) in checkpoint.other_models() {
        let s = if tensors == 1 { "" } else { "s" };
        // Writing to a text cannot fail.
        let _ = write!(
            hint,
            "; {tensors} tensor{s} that could be another model's are below {path} (--root {path})"
        );
    }
    Some(printable(&hint))
}

/// The folder that a path is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_name_and_a_number() {
        for name in Limits::names() {
            let limit: Limit = format!("{}=7", name.replace('_', "-")).parse().unwrap();
            assert_eq!((&*limit.name, limit.value), (name, 7));
        }
        for text in ["names", "name_bytes", "name_bytes=", "name_bytes=-1", "x=1"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
