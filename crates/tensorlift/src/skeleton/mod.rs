//! Models without weights: the names, shapes and dtypes that a checkpoint fills.
//!
//! ```
//! use tensorlift::skeleton::{FillRules, Skeleton};
//! use tensorlift::{Checkpoint, Dtype};
//!
//! # fn main() -> tensorlift::Result<()> {
//! let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
//! let mut skeleton = Skeleton::new();
//! skeleton.add("norm.weight", [32], Some(Dtype::F32))?;
//!
//! let rules = FillRules::new()
//!     .rename("embeddings.LayerNorm.*", "norm.*")
//!     .ignore("*");
//! let matched = skeleton.matched(checkpoint.catalog(), &rules)?;
//! assert_eq!(matched.source_names("norm.weight"), ["embeddings.LayerNorm.weight"]);
//! # Ok(())
//! # }
//! ```

mod fill;
mod matching;
mod problems;
mod rules;

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};
use tensorlift_tensor_meta::{Catalog, Dtype, Error, ErrorKind, Result};

pub use matching::{Matched, MatchedParameter, SourcePart};
pub use problems::{DtypeMismatch, Missing, Problems, ShapeMismatch};
pub use rules::FillRules;

/// The parameters of a model, without memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain")]
pub struct Skeleton {
    parameters: Vec<Parameter>,
    /// Names of parameters that share memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tied: Vec<Vec<String>>,
    #[serde(skip)]
    positions: HashMap<String, usize>,
}

/// A skeleton as it is written.
#[derive(Deserialize)]
struct Plain {
    parameters: Vec<Parameter>,
    #[serde(default)]
    tied: Vec<Vec<String>>,
}

/// A parameter of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The size of each dimension, in elements.
    pub shape: Vec<usize>,
    /// The dtype, where the model wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "dtype_by_name")]
    pub dtype: Option<Dtype>,
}

/// # Making
impl Skeleton {
    /// A skeleton without parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The skeleton that a checkpoint fills exactly; entries with the same bytes are tied.
    #[must_use]
    pub fn from_catalog(catalog: &Catalog) -> Self {
        let mut skeleton = Self::new();
        let mut same_bytes: HashMap<_, Vec<String>> = HashMap::new();
        for entry in catalog.entries() {
            skeleton.push(Parameter {
                name: entry.name().to_owned(),
                shape: entry.shape().to_vec(),
                dtype: Some(entry.dtype()),
            });
            let key = (entry.view(), entry.dtype(), entry.layout());
            let names = same_bytes.entry(key).or_default();
            names.push(entry.name().to_owned());
        }
        skeleton.tied = same_bytes
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        skeleton.tied.sort_unstable();
        skeleton
    }

    /// Adds a parameter; without a dtype it takes the checkpoint's.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if that name exists already.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        dtype: Option<Dtype>,
    ) -> Result<()> {
        let name = name.into();
        if self.positions.contains_key(&name) {
            return Err(
                Error::new(ErrorKind::Misuse, "two parameters have this name").with_tensor(name),
            );
        }
        let shape = shape.into();
        self.push(Parameter { name, shape, dtype });
        Ok(())
    }

    /// Lets parameters share memory, as tied weights do: the checkpoint needs to have one of them.
    ///
    /// ```
    /// use tensorlift::skeleton::{FillRules, Skeleton};
    /// use tensorlift::{Checkpoint, Dtype};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let mut skeleton = Skeleton::new();
    /// skeleton.add("embeddings.word_embeddings.weight", [91, 32], Some(Dtype::F32))?;
    /// skeleton.add("head.weight", [91, 32], Some(Dtype::F32))?;
    /// skeleton.tie(["head.weight", "embeddings.word_embeddings.weight"])?;
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let model = checkpoint.loader().fill_by(&skeleton, &FillRules::new().ignore("*"))?;
    /// assert_eq!(model.tensor("head.weight")?.shape(), [91, 32]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a name that is no parameter, for one that is tied already, and
    /// for parameters of different shapes or dtypes.
    pub fn tie(&mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<()> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let misuse =
            |name: &str, found: String| Err(Error::new(ErrorKind::Misuse, found).with_tensor(name));
        let Some(first) = names.first().and_then(|name| self.get(name)) else {
            return misuse(
                names.first().map_or("", String::as_str),
                "no such parameter".into(),
            );
        };
        for name in &names {
            let Some(other) = self.get(name) else {
                return misuse(name, "no such parameter".into());
            };
            if (&other.shape, other.dtype) != (&first.shape, first.dtype) {
                let (one, other) = (describe(first), describe(other));
                return misuse(
                    name,
                    format!("it is {other}, but tied to {:?}, {one}", first.name),
                );
            }
            if self.tied_to(name).len() > 1
                || names.iter().filter(|other| *other == name).count() > 1
            {
                return misuse(name, "it is tied twice".into());
            }
        }
        if names.len() > 1 {
            self.tied.push(names);
        }
        Ok(())
    }

    fn push(&mut self, parameter: Parameter) {
        self.positions
            .insert(parameter.name.clone(), self.parameters.len());
        self.parameters.push(parameter);
    }
}

/// # Asking
impl Skeleton {
    /// The parameters, in the order in which they were added.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parameter of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.position(name)
            .map(|position| &self.parameters[position])
    }

    /// The names of the parameters that share memory with this one, itself included.
    #[must_use]
    pub fn tied_to<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let group = self
            .tied
            .iter()
            .find(|group| group.iter().any(|other| other == name));
        match group {
            Some(group) => group.iter().map(String::as_str).collect(),
            None => vec![name],
        }
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }
}

impl TryFrom<Plain> for Skeleton {
    type Error = Error;

    fn try_from(plain: Plain) -> Result<Self> {
        let mut skeleton = Self::new();
        for Parameter { name, shape, dtype } in plain.parameters {
            skeleton.add(name, shape, dtype)?;
        }
        plain
            .tied
            .into_iter()
            .try_for_each(|names| skeleton.tie(names))?;
        Ok(skeleton)
    }
}

fn describe(parameter: &Parameter) -> String {
    match parameter.dtype {
        Some(dtype) => format!("{dtype} {:?}", parameter.shape),
        None => format!("{:?}", parameter.shape),
    }
}

fn dtype_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Dtype>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let dtype = Dtype::from_name(&name);
    let unknown = || serde::de::Error::custom(format!("no dtype is called {name:?}"));
    dtype.map(Some).ok_or_else(unknown)
}
