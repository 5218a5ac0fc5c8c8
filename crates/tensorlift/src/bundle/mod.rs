//! A model's files side by side: configuration, tokenizer and weights, each on a thread of its
//! own.
//!
//! ```
//! use tensorlift::bundle::Bundle;
//!
//! # fn main() -> tensorlift::Result<()> {
//! let bundle = Bundle::options()
//!     .component("vocabulary", |files| Ok(files.read("tokenizer.json")?.map_or(0, |b| b.len())))
//!     .open("fixtures/tiny-model")?;
//! let layers = bundle.config().and_then(|config| config["num_hidden_layers"].as_u64());
//! println!("{layers:?} layers, {} tensors", bundle.weights().tensors().len());
//! assert!(bundle.component::<usize>("vocabulary").is_some());
//! println!("{}", bundle.report());
//! # Ok(())
//! # }
//! ```

mod files;
mod report;
mod run;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tensorlift_loader::Loaded;
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use crate::settings::Settings;
use crate::{Checkpoint, Loader, OpenOptions};

pub use files::{BundleFiles, TokenizerFiles};
pub use report::{BundleReport, Span};

/// A model's configuration, tokenizer and weights.
#[derive(Debug)]
pub struct Bundle {
    checkpoint: Checkpoint,
    weights: Loaded,
    config: Option<Value>,
    generation_config: Option<Value>,
    adapter_config: Option<Value>,
    tokenizer: TokenizerFiles,
    #[cfg(feature = "tokenizers")]
    parsed_tokenizer: Option<tokenizers::Tokenizer>,
    components: BTreeMap<String, Box<dyn Any + Send>>,
    report: BundleReport,
}

/// What is loaded beside the weights, and how.
#[must_use = "options do nothing before `open`"]
#[derive(Default)]
pub struct BundleOptions<'a> {
    open: OpenOptions,
    settings: Option<Settings>,
    weights: Option<Box<Weights<'a>>>,
    components: Vec<(String, Box<Component<'a>>)>,
}

/// What failed, if several components did; the source of the error that
/// [`BundleOptions::open`] returns then.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failures {
    /// The error of each component, in the order in which they failed.
    pub failures: Vec<Error>,
}

impl std::error::Error for Failures {}

/// All of them, by semicolons.
impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            let semicolon = if index == 0 { "" } else { "; " };
            write!(f, "{semicolon}{failure}")?;
        }
        Ok(())
    }
}

/// Sets up the loader of the weights.
type Weights<'a> = dyn for<'c> Fn(Loader<'c>) -> Loader<'c> + Send + Sync + 'a;
/// Makes a component of the files beside the weights.
type Component<'a> = dyn Fn(&BundleFiles) -> Result<Box<dyn Any + Send>> + Send + Sync + 'a;

impl Bundle {
    /// Loads a folder or a model in the Hugging Face cache with default options.
    ///
    /// # Errors
    /// As [`BundleOptions::open`].
    pub fn open(target: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(target)
    }

    /// Options.
    pub fn options<'a>() -> BundleOptions<'a> {
        BundleOptions::default()
    }
}

/// # What it holds
impl Bundle {
    /// The checkpoint of the weights.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &Loaded {
        &self.weights
    }

    /// The weights, by value.
    #[must_use]
    pub fn into_weights(self) -> Loaded {
        self.weights
    }

    /// `config.json`, if there is one.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// `config.json`, deserialized.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Unsupported`] if the type does not
    /// fit.
    pub fn config_as<T: DeserializeOwned>(&self) -> Result<T> {
        let named = |error: Error| error.with_path("config.json");
        let Some(config) = &self.config else {
            return Err(named(Error::new(ErrorKind::NotFound, "the model has none")));
        };
        T::deserialize(config).map_err(|error| named(Error::new(ErrorKind::Unsupported, error)))
    }

    /// `generation_config.json`, if there is one.
    #[must_use]
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// `adapter_config.json`, if there is one.
    #[must_use]
    pub fn adapter_config(&self) -> Option<&Value> {
        self.adapter_config.as_ref()
    }

    /// The tokenizer's files.
    #[must_use]
    pub fn tokenizer(&self) -> &TokenizerFiles {
        &self.tokenizer
    }

    /// The tokenizer of `tokenizer.json`, if there is one; with the feature `tokenizers`.
    #[cfg(feature = "tokenizers")]
    #[must_use]
    pub fn parsed_tokenizer(&self) -> Option<&tokenizers::Tokenizer> {
        self.parsed_tokenizer.as_ref()
    }

    /// The component of this name, if it is of this type.
    #[must_use]
    pub fn component<T: 'static>(&self, name: &str) -> Option<&T> {
        self.components.get(name)?.downcast_ref()
    }

    /// Takes the component of this name out, if it is of this type.
    pub fn take_component<T: 'static>(&mut self, name: &str) -> Option<T> {
        if !self.components.get(name)?.is::<T>() {
            return None;
        }
        let component = self.components.remove(name)?.downcast().ok()?;
        Some(*component)
    }

    /// When each component was loaded.
    #[must_use]
    pub fn report(&self) -> &BundleReport {
        &self.report
    }
}

/// # How to load
impl<'a> BundleOptions<'a> {
    /// How the checkpoint is opened. Default: [`OpenOptions::default`].
    pub fn checkpoint(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// Opens the checkpoint and loads the weights by these settings; the report of the weights
    /// lists them.
    ///
    /// They come before the options of [`checkpoint`](Self::checkpoint); what
    /// [`weights`](Self::weights) sets up comes before them.
    pub fn settings(mut self, settings: &Settings) -> Self {
        self.settings = Some(settings.clone());
        self
    }

    /// Sets up the loader of the weights: what to select, where to, and how. Default: all of them
    /// into host memory.
    ///
    /// The loader's cancel token is replaced: a component that fails stops the weights.
    pub fn weights(
        mut self,
        weights: impl for<'c> Fn(Loader<'c>) -> Loader<'c> + Send + Sync + 'a,
    ) -> Self {
        self.weights = Some(Box::new(weights));
        self
    }

    /// Adds a component, built on its own thread from the files beside the weights: a parsed
    /// tokenizer, an adapter, an image processor.
    pub fn component<T: Send + 'static>(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&BundleFiles) -> Result<T> + Send + Sync + 'a,
    ) -> Self {
        let make = move |files: &BundleFiles| -> Result<Box<dyn Any + Send>> {
            Ok(Box::new(make(files)?))
        };
        self.components.push((name.into(), Box::new(make)));
        self
    }

    /// Loads everything.
    ///
    /// The first component that fails stops the weights within one chunk, and components that
    /// have not begun; what the others have made is dropped.
    ///
    /// # Errors
    /// The errors of [`Checkpoint::open`] and [`Loader::load`]; [`ErrorKind::Malformed`] for a
    /// configuration that is not JSON and, with the feature `tokenizers`, for an invalid
    /// `tokenizer.json`; [`ErrorKind::Misuse`] for two components with the same name and for one
    /// that panics; the error of a component. Each names the component or its file; if several
    /// fail, the error lists them all as [`Failures`].
    pub fn open(&self, target: impl AsRef<Path>) -> Result<Bundle> {
        run::run(self, target.as_ref())
    }
}

impl fmt::Debug for BundleOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.components.iter().map(|(name, _)| name).collect();
        f.debug_struct("BundleOptions")
            .field("components", &names)
            .finish_non_exhaustive()
    }
}

/// The files beside the weights of a checkpoint.
pub(crate) fn files_of(checkpoint: &Checkpoint) -> Arc<BundleFiles> {
    let folder = checkpoint.files().next().and_then(Path::parent);
    Arc::new(BundleFiles::new(folder.map(Path::to_owned)))
}
