//! Facts about a checkpoint that may surprise the caller.
//!
//! Every file or tensor that is left out, or loaded although the index does not list it, has a note
//! that says how to change that.

use std::fmt;
use std::path::{Path, PathBuf};

use tensorlift_loader::Resolution;
use tensorlift_shard_index::PassedOver;
use tensorlift_tensor_meta::{Entry, Source};

use crate::Checkpoint;
use crate::checkpoint::Held;

/// Names that a note shows; it holds all of them.
const SHOWN: usize = 7;

/// Something near the checkpoint that is not loaded, or loaded although no index lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Files or a folder beside the chosen ones are not loaded.
    PassedOver(PassedOver),
    /// The file's name marks it as one of several parts, and only it is loaded.
    Part {
        /// The file.
        file: PathBuf,
        /// Its number.
        number: u32,
        /// How many parts there are.
        of: u32,
    },
    /// Tensors are loaded that the index does not list; each with its file.
    Unlisted(Vec<(String, PathBuf)>),
    /// Copies of tensors are not loaded: the index takes these from other files.
    Copies(Vec<(String, PathBuf)>),
    /// Tensors are not loaded: they have no bytes, as those of PyTorch's meta device.
    WithoutBytes(Vec<String>),
    /// Tensors are not loaded: they are not below the chosen path.
    OutsideRoot {
        /// The path.
        root: String,
        /// How many there are.
        tensors: usize,
    },
    /// Some of these could be a model's too; each of their paths with its number of tensors.
    OtherModels(Vec<(String, usize)>),
    /// A PyTorch file has bytes that no part of the format claims, which `torch.load` ignores too.
    Unclaimed {
        /// The file.
        file: PathBuf,
        /// Their positions and counts, as text.
        bytes: Vec<String>,
    },
    /// Containers of this PyTorch file that have very many paths are listed under the first path
    /// only.
    AliasesOmitted(PathBuf),
}

/// # What is not loaded, and what is loaded in addition
impl Checkpoint {
    /// Everything near the checkpoint that is not loaded, and everything that is loaded although
    /// the index does not list it.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        let owned = |held: &Held| (held.name.clone(), held.file.clone());
        let owned = |held: &[Held]| held.iter().map(owned).collect::<Vec<_>>();
        let passed_over = self.choice.passed_over.iter().cloned();
        let mut notes: Vec<Note> = passed_over.map(Note::PassedOver).collect();
        if let (Some((number, of)), true) = (self.choice.part, notes.is_empty()) {
            let file = self.choice.chosen.clone();
            notes.push(Note::Part { file, number, of });
        }
        if !self.unlisted.is_empty() {
            notes.push(Note::Unlisted(owned(&self.unlisted)));
        }
        if !self.copies.is_empty() {
            notes.push(Note::Copies(owned(&self.copies)));
        }
        let entries = self.catalog.entries().iter();
        let absent = entries.filter(|entry| !self.has_bytes(entry));
        let absent: Vec<_> = absent.map(|entry| entry.name().to_owned()).collect();
        if !absent.is_empty() {
            notes.push(Note::WithoutBytes(absent));
        }
        if self.outside_root > 0 {
            let (root, tensors) = (self.root.clone(), self.outside_root);
            notes.push(Note::OutsideRoot { root, tensors });
            let models = self.other_models();
            let models: Vec<_> = models.map(|(path, n)| (path.to_owned(), n)).collect();
            if !models.is_empty() {
                notes.push(Note::OtherModels(models));
            }
        }
        let of_files = self.extras.iter().flat_map(|extras| &extras.notes);
        notes.extend(of_files.cloned());
        notes
    }

    pub(crate) fn has_bytes(&self, entry: &Entry) -> bool {
        !matches!(self.catalog.record(entry).source, Source::Absent { .. })
    }

    /// The choice as a report shows it.
    pub(crate) fn resolution(&self) -> Resolution {
        let chosen = Resolution::new(self.choice.chosen.display().to_string());
        self.notes()
            .into_iter()
            .fold(chosen, |resolution, note| match note {
                Note::PassedOver(other) => {
                    let what = other.path.display().to_string();
                    resolution.pass_over(what, other.why())
                }
                Note::Copies(copies) => copies.into_iter().fold(resolution, |all, (name, file)| {
                    let what = format!("tensor {name:?} in {}", file.display());
                    all.pass_over(what, "the index takes it from another file")
                }),
                Note::WithoutBytes(names) => names.into_iter().fold(resolution, |all, name| {
                    all.pass_over(format!("tensor {name:?}"), "it has no bytes (meta)")
                }),
                Note::OutsideRoot { root, tensors } => {
                    let what = outside(&root, tensors);
                    resolution.pass_over(what, "leave --root out to load them")
                }
                Note::OtherModels(models) => models.into_iter().fold(resolution, |all, model| {
                    let (what, remedy) = other_model(&model);
                    all.pass_over(what, remedy)
                }),
                Note::Unclaimed { file, bytes } => {
                    bytes.into_iter().fold(resolution, |all, bytes| {
                        let what = format!("{bytes} of {}", file.display());
                        all.pass_over(what, "no part of the format claims them")
                    })
                }
                Note::Unlisted(tensors) => {
                    tensors.into_iter().fold(resolution, |all, (name, file)| {
                        all.take_along(format!("tensor {name:?} in {}", file.display()))
                    })
                }
                Note::AliasesOmitted(_) | Note::Part { .. } => resolution,
            })
    }
}

/// One line.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::PassedOver(other) => write!(f, "not loaded: {other}"),
            Note::Part { file, number, of } => {
                let file = name(file).display();
                write!(
                    f,
                    "{file} is part {number} of {of} by its name, and is loaded alone"
                )
            }
            Note::Unlisted(tensors) => {
                write!(f, "loaded, although the index does not list ")?;
                write_held(f, tensors)
            }
            Note::Copies(tensors) => {
                write!(f, "not loaded, since the index names another file for ")?;
                write_held(f, tensors)
            }
            Note::WithoutBytes(names) => {
                let names = Shown(names.iter().map(|name| format!("{name:?}")).collect());
                write!(
                    f,
                    "not loaded, since the file has no bytes (meta) for {names}"
                )
            }
            Note::OutsideRoot { root, tensors } => {
                let what = outside(root, *tensors);
                write!(f, "not loaded: {what} (leave --root out to load them)")
            }
            Note::OtherModels(models) => {
                write!(f, "not loaded: ")?;
                for (position, model) in models.iter().enumerate() {
                    let separator = if position == 0 { "" } else { ", " };
                    let (what, remedy) = other_model(model);
                    write!(f, "{separator}{what} ({remedy})")?;
                }
                Ok(())
            }
            Note::Unclaimed { file, bytes } => {
                let (file, bytes) = (name(file).display(), bytes.join("; "));
                write!(
                    f,
                    "{file} has bytes that no part of the format claims: {bytes}; --strict refuses the file"
                )
            }
            Note::AliasesOmitted(file) => {
                let file = name(file).display();
                write!(
                    f,
                    "not all paths to the tensors of {file} are listed; raise expanded_nodes"
                )
            }
        }
    }
}

fn outside(root: &str, tensors: usize) -> String {
    let s = if tensors == 1 { "" } else { "s" };
    format!("{tensors} tensor{s} outside of {root:?}")
}

/// The tensors below a path, and how to load them.
fn other_model((path, tensors): &(String, usize)) -> (String, String) {
    let s = if *tensors == 1 { "" } else { "s" };
    let remedy = format!("load them with --root {path}");
    (format!("{tensors} tensor{s} below {path:?}"), remedy)
}

fn write_held(f: &mut fmt::Formatter<'_>, tensors: &[(String, PathBuf)]) -> fmt::Result {
    let shown = tensors.iter().map(|(tensor, file)| {
        let file = name(file).display();
        format!("{tensor:?} in {file}")
    });
    write!(f, "{}", Shown(shown.collect()))
}

fn name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// A list of tensors, cut short with a count.
struct Shown(Vec<String>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let s = if count == 1 { "" } else { "s" };
        write!(
            f,
            "{count} tensor{s}: {}",
            self.0[..count.min(SHOWN)].join(", ")
        )?;
        match count.saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
