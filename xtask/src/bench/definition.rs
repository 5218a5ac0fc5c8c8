//! Cases as data: `benches/definitions/*.toml`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tensorlift_fixture_kit::{CheckpointSpec, Format};

use super::recipe::Recipe;
use crate::Result;

/// One file of definitions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
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
pub(super) struct Case {
    pub(super) group: String,
    pub(super) recipe: Recipe,
    pub(super) format: FileFormat,
    pub(super) shards: usize,
    pub(super) cache: Cache,
    pub(super) rounds: usize,
    pub(super) series: Option<Series>,
    pub(super) engines: Vec<String>,
    pub(super) without: Vec<String>,
}

/// The formats of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileFormat {
    Safetensors,
    Torch,
    TorchLegacy,
}

/// Whether the page cache holds the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cache {
    Cold,
    Warm,
}

/// What grows along a row of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Series {
    Bytes,
    Tensors,
}

impl Definition {
    /// All definitions of a folder, in the order of their names.
    pub(super) fn read_all(folder: &Path) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path)?;
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
        };
        paths.iter().map(read).collect()
    }

    /// The cases, each combination for itself.
    pub(super) fn cases(self, smoke: bool) -> Vec<Case> {
        let mut cases = Vec::new();
        for group in self.case {
            let recipe = match smoke {
                true => group.recipe.shrunk(),
                false => group.recipe,
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
                            rounds: if smoke { 1 } else { group.rounds },
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
    /// `llama-2b/torch/4-files/cold`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.checkpoint_name(), self.cache)
    }

    /// The name without the state of the cache.
    pub(super) fn checkpoint_name(&self) -> String {
        let files = match self.shards {
            1 => "1-file".to_owned(),
            shards => format!("{shards}-files"),
        };
        format!("{}/{}/{files}", self.group, self.format)
    }

    /// The recipe of the checkpoint.
    pub(super) fn spec(&self) -> CheckpointSpec {
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
        })
    }
}

fn one_file() -> Vec<usize> {
    vec![1]
}
