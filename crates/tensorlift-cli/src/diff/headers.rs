//! What headers alone tell.

use std::fmt;

use serde::Serialize;
use tensorlift::{Checkpoint, Dtype, Entry};

/// Differences of names, dtypes and shapes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Headers {
    /// Tensors that both have, with one dtype and one shape.
    pub(super) same: usize,
    pub(super) only_in_a: Vec<String>,
    pub(super) only_in_b: Vec<String>,
    pub(super) changed: Vec<Changed>,
}

/// A tensor that both have in different forms.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) a: Form,
    pub(super) b: Form,
}

/// The dtype and the shape of a tensor.
#[derive(PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Form {
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Headers {
    pub(super) fn of(a: &Checkpoint, b: &Checkpoint) -> Self {
        let mut headers = Self {
            same: 0,
            only_in_a: missing(a, b),
            only_in_b: missing(b, a),
            changed: Vec::new(),
        };
        for entry in a.catalog().entries() {
            let Some(other) = b.catalog().get(entry.name()) else {
                continue;
            };
            let (one, other) = (Form::of(entry), Form::of(other));
            match one == other {
                true => headers.same += 1,
                false => headers.changed.push(Changed {
                    name: entry.name().to_owned(),
                    a: one,
                    b: other,
                }),
            }
        }
        headers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.only_in_a.is_empty() && self.only_in_b.is_empty() && self.changed.is_empty()
    }
}

/// The names that the other does not have.
fn missing(checkpoint: &Checkpoint, other: &Checkpoint) -> Vec<String> {
    let names = checkpoint.catalog().entries().iter().map(Entry::name);
    let missing = names.filter(|name| other.catalog().get(name).is_none());
    missing.map(str::to_owned).collect()
}

impl Form {
    fn of(entry: &Entry) -> Self {
        Self {
            dtype: entry.dtype(),
            shape: entry.shape().to_vec(),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
