use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tensorlift_tensor_meta::Limits;

/// Options of [`resolve`](crate::resolve()).
///
/// ```
/// use tensorlift_shard_index::ResolveOptions;
///
/// let options = ResolveOptions::new().variant("fp16");
/// assert_eq!(options.variant.as_deref(), Some("fp16"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ResolveOptions {
    /// The variant to take from a folder, such as `fp16` for `model.fp16.safetensors`.
    /// Default: the files without one; a variant only if there is nothing else.
    pub variant: Option<String>,
    /// The Hugging Face cache to look in. Default: given by [`environment`](Self::environment).
    pub cache: Option<PathBuf>,
    /// The variables that say where the Hugging Face cache is. Default: those of the process.
    pub environment: Environment,
    /// Ceilings for index files. Default: [`Limits::default`].
    pub limits: Limits,
    /// Whether an index of a folder is used. Default: by the order of preference.
    pub index: IndexUse,
    /// Recognises the format of a file with an unknown name by its bytes. Default: such files are
    /// ignored.
    pub sniff: Option<Sniff>,
    /// The format that comes first in the order of preference. Default: safetensors.
    pub preferred: WeightFormat,
}

/// A format that the files of a folder can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightFormat {
    /// safetensors. The default.
    #[default]
    Safetensors,
    /// PyTorch's formats.
    Torch,
}

impl WeightFormat {
    /// The one that comes after it.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Safetensors => Self::Torch,
            Self::Torch => Self::Safetensors,
        }
    }
}

/// Which index of a folder is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexUse {
    /// The first in the order of preference, if any.
    #[default]
    Auto,
    /// None: files and complete series are used as if there were no index.
    Ignore,
    /// This one, inside the folder or elsewhere; its shards are in the folder.
    File(PathBuf),
}

/// Recognises the format of the file at a path by its bytes.
pub type Sniff = fn(&Path) -> Sniffed;

/// The format that a file's bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sniffed {
    /// A safetensors file.
    Safetensors,
    /// A PyTorch file.
    Torch,
    /// A file that may hold tensors in a form that cannot be read.
    Unsupported,
    /// No tensors.
    Other,
}

impl ResolveOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`variant`](Self::variant).
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// Sets [`cache`](Self::cache).
    #[must_use]
    pub fn cache(mut self, cache: impl Into<PathBuf>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// Sets [`environment`](Self::environment).
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sets [`index`](Self::index).
    #[must_use]
    pub fn index(mut self, index: IndexUse) -> Self {
        self.index = index;
        self
    }

    /// Sets [`sniff`](Self::sniff).
    #[must_use]
    pub fn sniff(mut self, sniff: Sniff) -> Self {
        self.sniff = Some(sniff);
        self
    }

    /// Sets [`preferred`](Self::preferred).
    #[must_use]
    pub fn preferred(mut self, preferred: WeightFormat) -> Self {
        self.preferred = preferred;
        self
    }

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// Where environment variables come from.
///
/// The default reads the variables of the process when they are needed.
#[derive(Clone, Default)]
pub struct Environment(Option<BTreeMap<OsString, OsString>>);

impl Environment {
    /// The variables of the process.
    #[must_use]
    pub fn process() -> Self {
        Self(None)
    }

    /// These variables and no others.
    pub fn fixed<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        Self(Some(variables.map(|(k, v)| (k.into(), v.into())).collect()))
    }

    pub(crate) fn var(&self, name: &str) -> Option<OsString> {
        match &self.0 {
            Some(variables) => variables.get(std::ffi::OsStr::new(name)).cloned(),
            // The standard library panics on invalid names.
            None if name.is_empty() || name.contains(['=', '\0']) => None,
            None => std::env::var_os(name),
        }
    }

    /// The home folder, for `~`.
    pub(crate) fn home(&self) -> Option<OsString> {
        match &self.0 {
            Some(_) => self.var("HOME"),
            // Windows has no HOME; on Unix the user database knows where HOME is not set.
            None if cfg!(windows) => std::env::home_dir().map(OsString::from),
            None => self
                .var("HOME")
                .or_else(|| Some(std::env::home_dir()?.into())),
        }
    }
}

/// Names only: values of environment variables can be secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Environment(process)"),
            Some(variables) => f.debug_set().entries(variables.keys()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_no_panic() {
        for name in ["", "=", "a\0b", "A=B"] {
            assert_eq!(Environment::process().var(name), None);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", Environment::fixed([("TOKEN", "secret")]));
        assert!(
            shown.contains("TOKEN") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
