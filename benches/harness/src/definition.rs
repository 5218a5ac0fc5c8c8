//! Cases as data: `benches/definitions/*.toml`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tensorlift_fixture_kit::{CheckpointSpec, Format};

use crate::Result;
use crate::recipe::Recipe;

/// How large the checkpoints are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// As the definitions say.
    Full,
    /// The size of large models in GiB; small ones stay as they are.
    Gibibytes(f64),
    /// So small that nothing is measured, in one round.
    Smoke,
}

/// One file of definitions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    case: Vec<CaseGroup>,
}

/// Cases that differ in format, shards and cache only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseGroup {
    name: String,
    recipe: Recipe,
    formats: Vec<FileFormat>,
    #[serde(default = "one_file")]
    shards: Vec<usize>,
    cache: Vec<Cache>,
    rounds: usize,
    /// The plot of growth that these cases belong to.
    #[serde(default)]
    series: Option<Series>,
    /// Only these engines; without it, all.
    #[serde(default)]
    engines: Vec<String>,
    /// These engines take minutes for it.
    #[serde(default)]
    without: Vec<String>,
}

/// What is measured: one checkpoint in one state of the page cache.
#[derive(Clone, Debug)]
pub struct Case {
    pub(crate) group: String,
    pub(crate) recipe: Recipe,
    pub(crate) format: FileFormat,
    pub(crate) shards: usize,
    pub(crate) cache: Cache,
    /// How often each engine runs.
    pub rounds: usize,
    pub(crate) series: Option<Series>,
    pub(crate) engines: Vec<String>,
    pub(crate) without: Vec<String>,
}

/// The formats of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// safetensors.
    Safetensors,
    /// PyTorch zip archives.
    Torch,
    /// What PyTorch wrote before 1.6.
    TorchLegacy,
}

/// Where the files are when an engine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// On the disk alone.
    Cold,
    /// On the disk and in the page cache.
    Warm,
    /// On a tmpfs.
    Tmpfs,
}

/// What grows along a row of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Series {
    Bytes,
    Tensors,
}

impl Definition {
    /// All definitions of a folder, in the order of their names.
    ///
    /// # Errors
    /// If one cannot be read, or is no definition.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path)?;
            Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()).into())
        };
        paths.iter().map(read).collect()
    }

    /// The definitions in a text.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The cases, each combination for itself.
    #[must_use]
    pub fn cases(self, size: Size) -> Vec<Case> {
        let mut cases = Vec::new();
        for group in self.case {
            let recipe = match size {
                Size::Full => group.recipe,
                Size::Gibibytes(gibibytes) => group.recipe.of_gibibytes(gibibytes),
                Size::Smoke => group.recipe.shrunk(),
            };
            for &format in &group.formats {
                for &shards in &group.shards {
                    for &cache in &group.cache {
                        cases.push(Case {
                            group: group.name.clone(),
                            recipe: recipe.clone(),
                            format,
                            shards,
                            cache,
                            rounds: if size == Size::Smoke { 1 } else { group.rounds },
                            series: group.series,
                            engines: group.engines.clone(),
                            without: group.without.clone(),
                        });
                    }
                }
            }
        }
        cases
    }
}

impl Case {
    /// The engines that it names, to take part or not to.
    pub fn named_engines(&self) -> impl Iterator<Item = &String> {
        self.engines.iter().chain(&self.without)
    }

    /// Whether it is a point of a plot of growth, and no case for itself.
    #[must_use]
    pub fn is_of_series(&self) -> bool {
        self.series.is_some()
    }

    /// `llama-2b/torch/4-files/cold`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.checkpoint_name(), self.cache)
    }

    /// The name without the state of the cache.
    pub(crate) fn checkpoint_name(&self) -> String {
        let files = match self.shards {
            1 => "1-file".to_owned(),
            shards => format!("{shards}-files"),
        };
        format!("{}/{}/{files}", self.group, self.format)
    }

    /// The recipe of the checkpoint.
    pub(crate) fn spec(&self) -> CheckpointSpec {
        let format = match self.format {
            FileFormat::Safetensors => Format::safetensors(),
            FileFormat::Torch => Format::torch_zip(),
            FileFormat::TorchLegacy => Format::torch_legacy(),
        };
        self.recipe.spec(format).shards(self.shards)
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileFormat::Safetensors => "safetensors",
            FileFormat::Torch => "torch",
            FileFormat::TorchLegacy => "torch-legacy",
        })
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cache::Cold => "cold",
            Cache::Warm => "warm",
            Cache::Tmpfs => "tmpfs",
        })
    }
}

fn one_file() -> Vec<usize> {
    vec![1]
}
