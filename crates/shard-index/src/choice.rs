use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::hub::HubEntry;
use crate::listing::{Listing, name};

/// What was chosen for a target, and what else was there; part of the load's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// How the target was understood.
    pub route: Route,
    /// The file that was chosen: a checkpoint, an index, or the first of several files.
    #[serde(serialize_with = "lossy")]
    pub chosen: PathBuf,
    /// How the checkpoint is divided into files.
    pub form: Form,
    /// The number of the part and the count of parts, if the target is a file whose name marks it
    /// as one of several. Only that part is loaded.
    pub part: Option<(u32, u32)>,
    /// Other files and folders that hold, or could hold, tensors.
    pub passed_over: Vec<PassedOver>,
}

/// How a target was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Route {
    /// As a file.
    File,
    /// As a folder.
    Folder,
    /// As a model in the Hugging Face cache.
    Hub(HubEntry),
}

/// How a checkpoint is divided into files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// It is one file.
    Single,
    /// An index file lists its shards.
    Index,
    /// Its files are numbered by name, as in `-00001-of-00003`, and no index is used.
    Parts,
    /// The caller named its files.
    Files,
}

/// A file or folder that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PassedOver {
    /// The file or folder; the first file of several.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// How many files it has.
    pub files: usize,
    /// Why it was not chosen.
    pub reason: Reason,
}

/// Why a file was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The chosen one comes first in the order of preference.
    Precedence,
    /// It is this variant, which was not asked for; empty for the files without one.
    Variant(String),
    /// Its name marks it as the state of a training run.
    TrainingState,
    /// Its format is not supported.
    Unsupported,
    /// It belongs to the chosen index by name, but the index does not list it.
    Unlisted,
    /// It is an index, and the options exclude indexes.
    IndexIgnored,
    /// Its name differs from the chosen file's only in a number.
    OtherNumber,
    /// It is a subfolder.
    Subfolder,
    /// It comes first in the order of preference, and could not be opened for this reason; the
    /// caller allowed to take the next.
    Refused(String),
}

impl Choice {
    /// The choice of a file without alternatives.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            route: Route::File,
            chosen: path.into(),
            form: Form::Single,
            part: None,
            passed_over: Vec::new(),
        }
    }

    /// Says that `path` comes first in the order of preference and could not be opened.
    pub fn refuse(&mut self, path: PathBuf, why: impl Into<String>) {
        let reason = Reason::Refused(why.into());
        let listed = self.passed_over.iter_mut();
        match listed.into_iter().find(|other| other.path == path) {
            Some(other) => other.reason = reason,
            None => self.passed_over.push(PassedOver {
                path,
                files: 1,
                reason,
            }),
        }
    }
}

impl PassedOver {
    /// One line: the reason, and how to load it anyway.
    #[must_use]
    pub fn why(&self) -> String {
        match self.remedy() {
            Some(remedy) => format!("{}; {remedy}", self.reason),
            None => self.reason.to_string(),
        }
    }

    /// How to load it, if it can be.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match &self.reason {
            Reason::Precedence | Reason::TrainingState if self.files > 1 => {
                "load it with --files and the names of all parts".to_owned()
            }
            Reason::Precedence | Reason::TrainingState => "name the file to load it".to_owned(),
            Reason::Variant(variant) if variant.is_empty() => {
                "leave --variant out to load it".to_owned()
            }
            Reason::Variant(variant) => format!("load it with --variant {variant}"),
            Reason::Unsupported => return None,
            Reason::Unlisted => "load it with --no-index, or by name with --files".to_owned(),
            Reason::IndexIgnored => "leave --no-index out to use it".to_owned(),
            Reason::OtherNumber => "load several files as one with --files".to_owned(),
            Reason::Subfolder => "name the folder to load what is in it".to_owned(),
            Reason::Refused(_) => return None,
        })
    }
}

/// Files beside the checkpoint, found by name and not opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Companions {
    /// `config.json`
    #[serde(serialize_with = "lossy_option")]
    pub config: Option<PathBuf>,
    /// `generation_config.json`
    #[serde(serialize_with = "lossy_option")]
    pub generation_config: Option<PathBuf>,
    /// `adapter_config.json`
    #[serde(serialize_with = "lossy_option")]
    pub adapter_config: Option<PathBuf>,
    /// `preprocessor_config.json`
    #[serde(serialize_with = "lossy_option")]
    pub preprocessor_config: Option<PathBuf>,
    /// `tokenizer.json`
    #[serde(serialize_with = "lossy_option")]
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`
    #[serde(serialize_with = "lossy_option")]
    pub tokenizer_config: Option<PathBuf>,
    /// `tokenizer.model`
    #[serde(serialize_with = "lossy_option")]
    pub tokenizer_model: Option<PathBuf>,
    /// `special_tokens_map.json`
    #[serde(serialize_with = "lossy_option")]
    pub special_tokens_map: Option<PathBuf>,
    /// `chat_template.jinja`
    #[serde(serialize_with = "lossy_option")]
    pub chat_template: Option<PathBuf>,
}

impl Companions {
    /// The files that are there.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [
            &self.config,
            &self.generation_config,
            &self.adapter_config,
            &self.preprocessor_config,
            &self.tokenizer,
            &self.tokenizer_config,
            &self.tokenizer_model,
            &self.special_tokens_map,
            &self.chat_template,
        ];
        all.into_iter().flatten().map(PathBuf::as_path)
    }

    pub(crate) fn beside(folder: &Path) -> Self {
        let find = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Self {
            config: find("config.json"),
            generation_config: find("generation_config.json"),
            adapter_config: find("adapter_config.json"),
            preprocessor_config: find("preprocessor_config.json"),
            tokenizer: find("tokenizer.json"),
            tokenizer_config: find("tokenizer_config.json"),
            tokenizer_model: find("tokenizer.model"),
            special_tokens_map: find("special_tokens_map.json"),
            chat_template: find("chat_template.jinja"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.chosen.display())?;
        if !self.passed_over.is_empty() {
            write!(f, "; passed over: {}", Listing::plain(&self.passed_over))?;
        }
        Ok(())
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            // In full, so that it can be copied.
            Reason::Subfolder => write!(f, "{}", self.path.display())?,
            _ => write!(f, "{}", name(&self.path).display())?,
        }
        match self.files {
            0 | 1 => {}
            2 => write!(f, " and 1 more file")?,
            files => write!(f, " and {} more files", files - 1)?,
        }
        write!(f, " ({})", self.why())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Precedence => f.write_str("comes later in the order of preference"),
            Reason::Variant(variant) if variant.is_empty() => f.write_str("has no variant"),
            Reason::Variant(variant) => write!(f, "variant {variant:?} was not asked for"),
            Reason::TrainingState => f.write_str("state of a training run"),
            Reason::Unsupported => f.write_str("format not supported"),
            Reason::Unlisted => f.write_str("the index does not list it"),
            Reason::IndexIgnored => f.write_str("an index, which the options exclude"),
            Reason::OtherNumber => f.write_str("its name differs only in a number"),
            Reason::Subfolder => f.write_str("a folder with weights"),
            Reason::Refused(why) => write!(f, "could not be opened: {why}"),
        }
    }
}

/// serde rejects paths that are not Unicode; a report must not fail because of a name.
pub(crate) fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref()
        .map(|path| path.to_string_lossy())
        .serialize(serializer)
}
