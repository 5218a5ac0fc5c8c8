use std::fmt;
use std::sync::Arc;

use tensorlift_loader::Pattern;
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use super::Parameter;

/// Rules that map the names of a checkpoint to those of a skeleton, and say what may differ.
///
/// Without rules, names must be equal, every parameter must exist, and no tensor may be unused.
#[derive(Clone, Default)]
#[must_use = "rules do nothing before they are used"]
pub struct FillRules {
    renames: Vec<Rename>,
    wrappers: Vec<String>,
    fuses: Vec<Fuse>,
    splits: Vec<Split>,
    optional: Vec<Pattern>,
    ignored: Vec<Pattern>,
    pub(super) converts: bool,
    pub(super) init: Option<Arc<Init>>,
}

/// Fills the memory of a parameter that the checkpoint lacks.
type Init = dyn Fn(&Parameter, &mut [u8]) + Send + Sync;

#[derive(Clone, Debug)]
struct Rename {
    from: Pattern,
    to: Pattern,
}

/// Several tensors that are parts of one parameter.
#[derive(Clone, Debug)]
struct Fuse {
    from: Vec<Pattern>,
    to: Pattern,
    dim: usize,
}

/// One tensor whose parts are several parameters.
#[derive(Clone, Debug)]
struct Split {
    from: Pattern,
    to: Vec<Pattern>,
    dim: usize,
}

/// The use of a tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is the parameter of this name.
    Whole(String),
    /// It is one part of several of a parameter, joined along a dimension.
    Part {
        to: String,
        part: usize,
        parts: usize,
        dim: usize,
    },
    /// Its parts along a dimension are these parameters.
    Split { to: Vec<String>, dim: usize },
}

/// # Names
impl FillRules {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Renames tensors of the checkpoint: each `*` of `to` becomes the text that the `*` of `from`
    /// matches.
    ///
    /// `rename("bert.*", "*")` strips a prefix, `rename("*", "model.*")` adds one.
    /// Rules apply one after the other, in the order in which they are given.
    pub fn rename(mut self, from: impl Into<Pattern>, to: impl Into<Pattern>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.renames.push(Rename { from, to });
        self
    }

    /// Matches names that are equal without these parts, wherever they occur:
    /// `"module."`, `"model."`, `"_orig_mod."`, which training frameworks wrap around models.
    pub fn wrappers(mut self, parts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let part = |part: String| match part.ends_with('.') {
            true => part,
            false => format!("{part}."),
        };
        self.wrappers
            .extend(parts.into_iter().map(Into::into).map(part));
        self
    }

    /// Joins tensors of the checkpoint to one parameter, in the given order along a dimension:
    /// q, k and v to qkv.
    pub fn fuse(
        mut self,
        from: impl IntoIterator<Item = impl Into<Pattern>>,
        to: impl Into<Pattern>,
        dim: usize,
    ) -> Self {
        let from = from.into_iter().map(Into::into).collect();
        let to = to.into();
        self.fuses.push(Fuse { from, to, dim });
        self
    }

    /// Divides a tensor of the checkpoint into several parameters along a dimension; the shapes
    /// of the parameters say how.
    pub fn split(
        mut self,
        from: impl Into<Pattern>,
        to: impl IntoIterator<Item = impl Into<Pattern>>,
        dim: usize,
    ) -> Self {
        let to = to.into_iter().map(Into::into).collect();
        let from = from.into();
        self.splits.push(Split { from, to, dim });
        self
    }
}

/// # Differences
impl FillRules {
    /// Allows parameters to be absent from the checkpoint.
    pub fn optional(mut self, pattern: impl Into<Pattern>) -> Self {
        self.optional.push(pattern.into());
        self
    }

    /// Allows tensors of the checkpoint to be unused.
    pub fn ignore(mut self, pattern: impl Into<Pattern>) -> Self {
        self.ignored.push(pattern.into());
        self
    }

    /// Converts floating-point tensors to the dtypes of the skeleton. Default: a dtype that
    /// differs is a problem.
    pub fn convert(mut self) -> Self {
        self.converts = true;
        self
    }

    /// Fills optional parameters that the checkpoint lacks: the function gets the parameter and
    /// its bytes, which are zero. Default: they are left out. Parameters without a dtype are F32.
    pub fn init(mut self, init: impl Fn(&Parameter, &mut [u8]) + Send + Sync + 'static) -> Self {
        self.init = Some(Arc::new(init));
        self
    }

    pub(super) fn is_optional(&self, name: &str) -> bool {
        self.optional.iter().any(|pattern| pattern.matches(name))
    }

    pub(super) fn is_ignored(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| pattern.matches(name))
    }
}

/// # Applying
impl FillRules {
    /// Rejects rules that cannot apply to any checkpoint.
    pub(super) fn check(&self) -> Result<()> {
        let renames = self.renames.iter().map(|rule| (&rule.from, &rule.to));
        let fuses = self.fuses.iter();
        let fuses = fuses.flat_map(|rule| rule.from.iter().map(|from| (from, &rule.to)));
        let splits = self.splits.iter();
        let splits = splits.flat_map(|rule| rule.to.iter().map(|to| (&rule.from, to)));
        let wrong: Vec<String> = renames
            .chain(fuses)
            .chain(splits)
            .filter(|(from, to)| from.wildcards() != to.wildcards())
            .map(|(from, to)| format!("{:?} to {:?}", from.as_str(), to.as_str()))
            .collect();
        if !wrong.is_empty() {
            let found = format!("these rules have more * on one side: {}", wrong.join(", "));
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_remedy("write as many * in the new name as in the old one"));
        }
        Ok(())
    }

    /// The use of the tensor with this name; an error says which rules compete for it.
    pub(super) fn use_of(&self, name: &str) -> Result<Use, String> {
        let renamed = self.renamed(name);
        let mut uses = Vec::new();
        for Fuse { from, to, dim } in &self.fuses {
            for (part, pattern) in from.iter().enumerate() {
                let Some(captures) = pattern.captures(&renamed) else {
                    continue;
                };
                let (to, parts, dim) = (to.expand(&captures), from.len(), *dim);
                let part = Use::Part {
                    to,
                    part,
                    parts,
                    dim,
                };
                uses.push((pattern, part));
            }
        }
        for Split { from, to, dim } in &self.splits {
            if let Some(captures) = from.captures(&renamed) {
                let to = to.iter().map(|to| to.expand(&captures)).collect();
                uses.push((from, Use::Split { to, dim: *dim }));
            }
        }
        if uses.len() > 1 {
            let patterns: Vec<&str> = uses.iter().map(|(pattern, _)| pattern.as_str()).collect();
            return Err(format!("{name} by {patterns:?}"));
        }
        let used = uses.pop().map(|(_, used)| used);
        Ok(used.unwrap_or(Use::Whole(renamed)))
    }

    fn renamed(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for Rename { from, to } in &self.renames {
            if let Some(captures) = from.captures(&name) {
                name = to.expand(&captures);
            }
        }
        name
    }

    /// A name without the parts that wrap it.
    pub(super) fn unwrapped(&self, name: &str) -> String {
        let mut name = name.to_owned();
        while let Some(shorter) = self.wrappers.iter().find_map(|part| without(&name, part)) {
            name = shorter;
        }
        name
    }
}

impl fmt::Debug for FillRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillRules")
            .field("renames", &self.renames)
            .field("wrappers", &self.wrappers)
            .field("fuses", &self.fuses)
            .field("splits", &self.splits)
            .field("optional", &self.optional)
            .field("ignored", &self.ignored)
            .field("converts", &self.converts)
            .finish_non_exhaustive()
    }
}

/// The name without one occurrence of a part that begins where a module begins.
fn without(name: &str, part: &str) -> Option<String> {
    let begins = |at: &usize| *at == 0 || name.as_bytes()[at - 1] == b'.';
    let at = name.match_indices(part).map(|(at, _)| at).find(begins)?;
    // A name that consists of the part alone stays.
    (part.len() > 1 && name.len() > part.len())
        .then(|| format!("{}{}", &name[..at], &name[at + part.len()..]))
}
