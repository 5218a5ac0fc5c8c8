use std::fmt;

use serde::Serialize;
use tensorlift_tensor_meta::Dtype;

/// Lines of one kind that are shown before the rest is counted.
const SHOWN: usize = 20;

/// Everything in which a checkpoint and a skeleton differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problems {
    /// Parameters that the checkpoint lacks.
    pub missing: Vec<Missing>,
    /// Tensors of the checkpoint that fill no parameter.
    pub unexpected: Vec<String>,
    /// Tensors whose shape is not that of their parameter.
    pub shapes: Vec<ShapeMismatch>,
    /// Tensors whose dtype is not that of their parameter.
    pub dtypes: Vec<DtypeMismatch>,
    /// Parameters for which there are several tensors, and these.
    pub ambiguous: Vec<(String, Vec<String>)>,
}

/// A parameter that the checkpoint lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Missing {
    /// The parameter.
    pub name: String,
    /// An unused tensor of the checkpoint with a similar name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<String>,
}

/// A tensor whose shape is not that of its parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShapeMismatch {
    /// The parameter.
    pub name: String,
    /// The tensors of the checkpoint that it is made of.
    pub sources: Vec<String>,
    /// The shape of the parameter.
    pub expected: Vec<usize>,
    /// The shapes of the tensors.
    pub found: Vec<Vec<usize>>,
}

/// A tensor whose dtype is not that of its parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DtypeMismatch {
    /// The parameter.
    pub name: String,
    /// The tensor of the checkpoint.
    pub source: String,
    /// The dtype of the parameter.
    pub expected: Dtype,
    /// The dtype of the tensor.
    pub found: Dtype,
}

impl Problems {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.missing.len()
            + self.unexpected.len()
            + self.shapes.len()
            + self.dtypes.len()
            + self.ambiguous.len()
    }
}

impl std::error::Error for Problems {}

/// All of them, each kind on a line of its own.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint does not fill the skeleton")?;
        show(f, "missing", &self.missing)?;
        show(f, "unexpected", &self.unexpected)?;
        show(f, "wrong shape", &self.shapes)?;
        show(f, "wrong dtype", &self.dtypes)?;
        let ambiguous = self.ambiguous.iter();
        let ambiguous = ambiguous.map(|(name, from)| format!("{name} (from {})", from.join(", ")));
        show(f, "given twice", &ambiguous.collect::<Vec<_>>())
    }
}

fn show(f: &mut fmt::Formatter<'_>, kind: &str, problems: &[impl fmt::Display]) -> fmt::Result {
    if problems.is_empty() {
        return Ok(());
    }
    write!(f, "\n{kind}: ")?;
    for (index, problem) in problems.iter().take(SHOWN).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{problem}")?;
    }
    match problems.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.did_you_mean {
            Some(other) => write!(f, "{} (is it {other}?)", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for ShapeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (expected {:?}, found", self.name, self.expected)?;
        for (source, found) in self.sources.iter().zip(&self.found) {
            write!(f, " {source} {found:?}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for DtypeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            source,
            expected,
            found,
        } = self;
        write!(f, "{name} (expected {expected}, found {source} {found})")
    }
}
