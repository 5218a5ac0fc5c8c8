use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_pickle::Value;
use tensorlift_format_torchzip::Policy;
use tensorlift_loader::{Phases, Resolution, Shard};
use tensorlift_shard_index::{self as shard_index, Companions, ResolveOptions, Resolved};
use tensorlift_storage::{FileStorage, MemoryStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Limits, Result, Slice};

use crate::formats::{self, Extras, ParseOptions, Parsed};
use crate::loader::Loader;
use crate::parallel;

/// Of more shards than this, each is opened again when it is read, so that they do not use up the
/// process's descriptors.
const KEPT_OPEN: usize = 16;

/// An open checkpoint: its files and what they list, without a tensor's bytes.
///
/// Cloning it copies the list of files and shares the rest.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    catalog: Arc<Catalog>,
    shards: Vec<Shard>,
    /// What PyTorch files hold beside tensors, one for each.
    extras: Arc<[Extras]>,
    /// The path that was cut off all names.
    root: String,
    choice: Resolution,
    companions: Companions,
    phases: Phases,
}

/// How a checkpoint is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    resolve: ResolveOptions,
    policy: Policy,
}

/// # Opening
impl Checkpoint {
    /// Opens a file, a folder, an index file or a model in the Hugging Face cache
    /// (`org/name[@revision]`), and reads what it lists.
    ///
    /// # Errors
    /// If there is no checkpoint, or one that breaks its format; the error names the file.
    pub fn open(target: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::default().open(target)
    }

    /// Opens the bytes of one file that is in memory already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        Self::from_storage("in memory", Arc::new(MemoryStorage::new(bytes)))
    }

    /// Opens one file from a storage of your own; errors and reports call it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_storage(name: impl Into<PathBuf>, storage: Arc<dyn Storage>) -> Result<Self> {
        OpenOptions::default().open_storage(name, storage)
    }

    /// Options for opening.
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::default()
    }
}

/// # What it holds
impl Checkpoint {
    /// All tensors, as the files describe them.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The files, in the order in which [`ShardId`](crate::ShardId)s count them.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(Shard::path)
    }

    /// Configuration and tokenizer beside the weights: found by name, not opened.
    #[must_use]
    pub fn companions(&self) -> &Companions {
        &self.companions
    }

    /// What was chosen for the path given, and what was passed over.
    #[must_use]
    pub fn choice(&self) -> &Resolution {
        &self.choice
    }

    /// What a PyTorch file holds beside tensors, as a value; a tensor is `{"$tensor": name}`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for safetensors files, which hold nothing else;
    /// [`ErrorKind::Misuse`] for checkpoints of several files;
    /// [`ErrorKind::LimitExceeded`] if the value would be far larger than the file.
    pub fn state_value(&self) -> Result<Value> {
        let refused = |kind, found: &str| {
            Err(Error::new(kind, found.to_owned()).with_path(self.choice.chosen.clone()))
        };
        match self.extras.first().map(|extras| &extras.state) {
            None => refused(
                ErrorKind::NotFound,
                "safetensors files hold nothing beside tensors",
            ),
            Some(Some(state)) => state
                .value()
                .map_err(|error| Error::from(error).with_path(self.choice.chosen.clone())),
            Some(None) => refused(
                ErrorKind::Misuse,
                "each shard has a state: open the one you mean",
            ),
        }
    }

    /// What a PyTorch file holds beside tensors, as a type of yours: epoch, optimizer settings,
    /// scheduler, random number generators.
    ///
    /// Integers beyond `i64` come as decimal text, tensors as a map from `"$tensor"` to the name.
    ///
    /// # Errors
    /// As [`state_value`](Self::state_value); [`ErrorKind::Unsupported`] if the type does not fit.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_pickle::from_value(self.state_value()?).map_err(|error| {
            Error::new(ErrorKind::Unsupported, error)
                .with_path(self.choice.chosen.clone())
                .with_remedy("`tensorlift inspect --state` shows what is there")
        })
    }

    /// Fails if a PyTorch file holds no tensor: such a file opens for its state, but is no model.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], saying what the file holds instead.
    pub fn require_tensors(&self) -> Result<()> {
        let state = self.extras.first().and_then(|extras| extras.state.as_ref());
        match state {
            Some(state) if self.catalog.is_empty() => {
                let found = format!("the file holds no tensor, but {}", state.summary());
                Err(Error::new(ErrorKind::NotFound, found)
                    .with_path(self.choice.chosen.clone())
                    .with_remedy("open another file, or ask this one for its state"))
            }
            _ => Ok(()),
        }
    }

    /// The paths within a PyTorch file that hold tensors, each with their number; the empty path
    /// is the file's own.
    pub fn roots(&self) -> impl Iterator<Item = (&str, usize)> {
        let roots = self.extras.first().map_or(&[][..], |extras| &extras.roots);
        roots
            .iter()
            .map(|(path, tensors)| (path.as_str(), *tensors))
    }

    /// The path below which the names are likely the model's own, as in `state_dict`; empty where
    /// they are so already.
    #[must_use]
    pub fn automatic_root(&self) -> &str {
        match &self.extras[..] {
            [extras] => &extras.automatic_root,
            _ => "",
        }
    }

    /// The path that was cut off all names by [`root`](Self::root).
    #[must_use]
    pub fn current_root(&self) -> &str {
        &self.root
    }

    /// The same checkpoint with only the tensors below `path`, named from there on: with
    /// `"state_dict"`, `state_dict.layer.weight` is `layer.weight`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no tensor is below it; the error lists paths that have some.
    pub fn root(mut self, path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(self);
        }
        let below = |entry: &Entry| {
            entry
                .name()
                .strip_prefix(path)?
                .strip_prefix('.')
                .map(Box::<str>::from)
        };
        let catalog = self.catalog.renamed(below);
        let catalog = catalog.map_err(|error| Error::new(ErrorKind::Malformed, error))?;
        if catalog.is_empty() {
            let others: Vec<&str> = self
                .roots()
                .map(|(path, _)| path)
                .filter(|path| !path.is_empty())
                .collect();
            let found = format!("no tensor is below {path:?}; there are some below {others:?}");
            return Err(Error::new(ErrorKind::NotFound, found)
                .with_path(self.choice.chosen)
                .with_remedy("name one of these, or none"));
        }
        self.catalog = Arc::new(catalog);
        self.root = match self.root.is_empty() {
            true => path.to_owned(),
            false => format!("{}.{path}", self.root),
        };
        Ok(self)
    }

    /// The same checkpoint with the shares of one rank of several, for tensors for which `slice`
    /// gives one.
    ///
    /// Shares of rows read their own bytes alone; other shares are strided views.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if a tensor lacks the dimension.
    pub fn sliced(mut self, slice: impl Fn(&Entry) -> Option<Slice>) -> Result<Self> {
        let catalog = self.catalog.sliced(slice);
        let catalog = catalog.map_err(|error| Error::new(ErrorKind::Misuse, error))?;
        self.catalog = Arc::new(catalog);
        Ok(self)
    }

    /// A loader of all its tensors into host memory.
    pub fn loader(&self) -> Loader<'_> {
        Loader::new(self)
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(crate) fn phases(&self) -> Phases {
        self.phases
    }
}

impl OpenOptions {
    /// Ceilings for untrusted input. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.resolve.limits = limits;
        self
    }

    /// What to do with classes that are no plain data in PyTorch files. Default:
    /// [`Policy::Inert`]: they become data, and are never run.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The variant to take from a folder, such as `fp16` for `model.fp16.safetensors`.
    /// Default: the files without one.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.resolve.variant = Some(variant.into());
        self
    }

    /// The Hugging Face cache to look in. Default: as Python's `huggingface_hub` finds it.
    #[must_use]
    pub fn hub_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.resolve.cache = Some(folder.into());
        self
    }

    /// Opens a checkpoint; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(&self, target: impl AsRef<Path>) -> Result<Checkpoint> {
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();

        let resolved = shard_index::resolve(target, &self.resolve)?;
        phases.resolve = lap();

        let shards = open_all(&resolved.shards)?;
        phases.open = lap();

        let (shards, catalogs, extras) = self.parse(shards)?;
        let catalog = merge(&resolved, catalogs)?;
        phases.parse = lap();

        tracing::debug!(choice = %resolved.choice, tensors = catalog.len(), "opened");
        Ok(Checkpoint {
            catalog,
            shards,
            extras: extras.into(),
            root: String::new(),
            choice: describe(&resolved.choice),
            companions: resolved.companions,
            phases,
        })
    }

    /// Opens one file from a storage of your own; see [`Checkpoint::from_storage`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_storage(
        &self,
        name: impl Into<PathBuf>,
        storage: Arc<dyn Storage>,
    ) -> Result<Checkpoint> {
        let clock = Instant::now();
        let (shards, mut catalogs, extras) = self.parse(vec![Shard::new(name, storage)])?;
        let mut phases = Phases::default();
        phases.parse = clock.elapsed();
        Ok(Checkpoint {
            catalog: catalogs.remove(0),
            extras: extras.into(),
            root: String::new(),
            choice: Resolution::new(shards[0].path().display().to_string()),
            companions: Companions::default(),
            phases,
            shards,
        })
    }

    /// Reads what each shard lists, several at once; the shards come back with their formats.
    fn parse(&self, shards: Vec<Shard>) -> Result<Listed> {
        let releases = shards.len() > KEPT_OPEN;
        let options = ParseOptions {
            limits: &self.resolve.limits,
            policy: self.policy,
        };
        let parse = |shard: Shard| {
            let storage = shard.storage();
            let parsed = formats::parse(&**storage, shard.path(), &options)?;
            if releases {
                storage.release();
            }
            Ok((shard.with_format(parsed.format), parsed))
        };
        let parsed: Vec<(Shard, Parsed)> = parallel::map(shards, parse)?;
        let (mut shards, mut catalogs, mut all_extras) = (Vec::new(), Vec::new(), Vec::new());
        for (
            shard,
            Parsed {
                catalog, extras, ..
            },
        ) in parsed
        {
            shards.push(shard);
            catalogs.push(catalog);
            all_extras.extend(extras);
        }
        if shards.len() > 1 {
            // Which also lets go of the catalogs, so that they can be merged without a copy.
            all_extras
                .iter_mut()
                .for_each(|extras: &mut Extras| extras.state = None);
        }
        Ok((shards, catalogs, all_extras))
    }
}

/// The shards, and what each of them lists and holds beside.
type Listed = (Vec<Shard>, Vec<Arc<Catalog>>, Vec<Extras>);

fn open_all(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let open = |path: &PathBuf| {
        let storage = FileStorage::open(path)
            .map_err(|error| Error::new(ErrorKind::Storage, error).with_path(path))?;
        if paths.len() > KEPT_OPEN {
            storage.release();
        }
        Ok(Shard::new(path, Arc::new(storage)))
    };
    paths.iter().map(open).collect()
}

/// One catalog of all shards; a single file's is taken as it is.
fn merge(resolved: &Resolved, mut catalogs: Vec<Arc<Catalog>>) -> Result<Arc<Catalog>> {
    if resolved.index.is_none() && catalogs.len() == 1 {
        return Ok(catalogs.remove(0));
    }
    let catalogs = catalogs.into_iter().map(Arc::unwrap_or_clone).collect();
    Ok(Arc::new(resolved.merge(catalogs)?.catalog))
}

/// The choice in the words of a report.
fn describe(choice: &shard_index::Choice) -> Resolution {
    let chosen = Resolution::new(choice.chosen.display().to_string());
    choice.passed_over.iter().fold(chosen, |resolution, other| {
        resolution.pass_over(other.path.display().to_string(), other.reason.to_string())
    })
}
