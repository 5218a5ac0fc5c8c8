//! Engines as data: `benches/engines.toml`.

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::Result;
use crate::definition::{Cache, Case, FileFormat};

/// A way to load a checkpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Its name in tables.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Who has it.
    pub program: Program,
    /// What the program calls it; several settings compete, and the best one counts.
    pub(crate) settings: Vec<String>,
    #[serde(default)]
    pub(crate) mode: Mode,
    pub(crate) formats: Vec<FileFormat>,
    /// Without it, both.
    #[serde(default)]
    cache: Option<Cache>,
    /// Whether it takes part in those cases alone that name it.
    #[serde(default)]
    only_named: bool,
    /// Whether the memory that it takes of a device is watched, in a run of its own.
    #[serde(default)]
    pub(crate) watched: bool,
    /// Whether it is what others are held against.
    #[serde(default)]
    pub limit: bool,
}

/// Which program has an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// benches/engines, or benches/cuda.
    Engines,
    /// benches/peers.
    Peers,
    /// A script of benches/peers.
    Python,
}

/// Where the bytes are in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// In memory of the process's own.
    #[default]
    Copy,
    /// In the page cache, every page mapped.
    Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    engine: Vec<Engine>,
}

impl Engine {
    /// All engines of a file.
    ///
    /// # Errors
    /// If it cannot be read, or has none.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// All engines in a text.
    ///
    /// # Errors
    /// If it is no list of engines.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let file: File = toml::from_str(text)?;
        Ok(file.engine)
    }

    /// Leaves the engines that are asked for, if any are, and the limits: those of a name, or where
    /// none has it, those whose names contain it.
    pub fn select(engines: &mut Vec<Self>, asked: &[String]) {
        if asked.is_empty() {
            return;
        }
        let is_name = |part: &String| engines.iter().any(|engine| engine.name == *part);
        let (names, parts): (Vec<_>, Vec<_>) = asked.iter().partition(|part| is_name(part));
        engines.retain(|engine| {
            engine.limit
                || names.contains(&&engine.name)
                || parts.iter().any(|part| engine.name.contains(part.as_str()))
        });
    }

    /// Whether it takes part in a case.
    #[must_use]
    pub fn runs(&self, case: &Case) -> bool {
        let named = match &case.engines[..] {
            [] => !self.only_named,
            names => names.contains(&self.name),
        };
        self.formats.contains(&case.format)
            && self.cache.is_none_or(|cache| cache == case.cache)
            && !case.without.contains(&self.name)
            && (self.limit || named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_selects_its_engine_and_a_part_of_names_all_that_contain_it() {
        let engine = |name: &str, more: &str| {
            format!(
                "[[engine]]\nname = \"{name}\"\nabout = \"\"\nprogram = \"engines\"\n\
                 settings = [\"x\"]\nformats = [\"torch\"]\n{more}\n"
            )
        };
        let text = [
            engine("limit", "limit = true"),
            engine("ours", ""),
            engine("ours, mapped", ""),
            engine("theirs, mapped", ""),
        ];
        let selected = |asked: &[&str]| {
            let mut engines = Engine::parse(&text.concat()).unwrap();
            let asked: Vec<String> = asked.iter().map(|&part| part.to_owned()).collect();
            Engine::select(&mut engines, &asked);
            engines
                .into_iter()
                .map(|engine| engine.name)
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(selected(&[]), "limit; ours; ours, mapped; theirs, mapped");
        assert_eq!(selected(&["ours"]), "limit; ours");
        assert_eq!(selected(&["mapped"]), "limit; ours, mapped; theirs, mapped");
        assert_eq!(selected(&["ours", "theirs"]), "limit; ours; theirs, mapped");
    }
}
