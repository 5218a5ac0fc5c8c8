mod assemble;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_pickle::{HashableValue, Value};
use tensorlift_loader::{Phases, Shard};
use tensorlift_shard_index::{Choice, Companions};
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Result, Slice, names};

use crate::OpenOptions;
use crate::formats::{Extras, torch};
use crate::loader::{Loader, listed};

/// An open checkpoint: its files and what they list, without a tensor's bytes.
///
/// Cloning it copies the list of files and shares the rest.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) shards: Vec<Shard>,
    /// The non-tensor contents of PyTorch files, one item for each file.
    pub(crate) extras: Arc<[Extras]>,
    /// The path that was removed from all names.
    pub(crate) root: String,
    /// Tensors of the files that are not below it.
    pub(crate) outside_root: usize,
    /// Whether it holds shares of tensors, which are loaded without the rest.
    pub(crate) row_major: bool,
    pub(crate) choice: Choice,
    pub(crate) companions: Companions,
    /// Tensors that the index does not list.
    pub(crate) unlisted: Arc<[Held]>,
    /// Tensors that the index takes from another shard; they are not in the catalog.
    pub(crate) copies: Arc<[Held]>,
    pub(crate) phases: Phases,
}

/// A tensor that a shard holds: its name, and the file's.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
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

    /// Opens one file from any [`Storage`]; errors and reports call it `name`.
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

    /// The format of each file, by the name that reports give it.
    pub fn formats(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.shards.iter().map(Shard::format)
    }

    /// Configuration and tokenizer beside the weights: found by name, not opened.
    #[must_use]
    pub fn companions(&self) -> &Companions {
        &self.companions
    }

    /// What was chosen for the path given, and what was passed over.
    #[must_use]
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The non-tensor contents as a value. For a PyTorch file this is everything that was pickled,
    /// with `{"$tensor": name}` in place of each tensor; for safetensors files it is their
    /// metadata.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for safetensors files without metadata;
    /// [`ErrorKind::Misuse`] for PyTorch checkpoints of several files;
    /// [`ErrorKind::LimitExceeded`] if the value would be far larger than the file.
    pub fn state_value(&self) -> Result<Value> {
        let metadata = self.catalog.metadata();
        if self.extras.is_empty() && !metadata.is_empty() {
            let lines = metadata.iter().map(|(key, line)| {
                (
                    HashableValue::String(key.clone()),
                    Value::String(line.clone()),
                )
            });
            return Ok(Value::Dict(lines.collect()));
        }
        let value = self.pickled_state()?.value();
        value.map_err(|error| Error::from(error).with_path(self.choice.chosen.clone()))
    }

    /// The non-tensor contents of a PyTorch file, object by object, for callers that rebuild it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for safetensors files; [`ErrorKind::Misuse`] for checkpoints of
    /// several files.
    #[cfg(feature = "torch")]
    pub fn torch_state(&self) -> Result<&crate::torch::State> {
        self.pickled_state()
    }

    fn pickled_state(&self) -> Result<&torch::State> {
        let refused = |kind, found: &str| {
            Err(Error::new(kind, found.to_owned()).with_path(self.choice.chosen.clone()))
        };
        match self.extras.first().map(|extras| &extras.state) {
            None => refused(
                ErrorKind::NotFound,
                "there is nothing beside tensors: no metadata",
            ),
            Some(Some(state)) => Ok(state),
            Some(None) => refused(
                ErrorKind::Misuse,
                "each shard has its own state: open one of them",
            ),
        }
    }

    /// The non-tensor contents of a PyTorch file, deserialized: epoch, optimizer settings,
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

    /// Fails if a PyTorch file holds no tensor: such a file opens for its state, but is not a
    /// model.
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
                    .with_remedy("open another file, or read the state of this one"))
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

    /// The path below which names are likely those of the model, such as `state_dict`; empty if
    /// they are already.
    ///
    /// Prefixes added by wrappers (`module`, `_orig_mod`) are such a path in every format.
    #[must_use]
    pub fn automatic_root(&self) -> String {
        match &self.extras[..] {
            [extras] if !extras.automatic_root.0.is_empty() => extras.automatic_root.0.clone(),
            _ => {
                let entries = self.catalog.entries().iter();
                names::model_wrappers(entries.map(|entry| (entry.name(), entry)))
            }
        }
    }

    /// Paths beside [`automatic_root`](Self::automatic_root) and
    /// [`current_root`](Self::current_root) that could be a model's too, each with its number of
    /// tensors: moving averages of the weights (EMA), a second network.
    ///
    /// Rule: where one of several models of a file is chosen, the others are named.
    pub fn other_models(&self) -> impl Iterator<Item = (&str, usize)> {
        let extras = match &self.extras[..] {
            [extras] => Some(extras),
            _ => None,
        };
        let models = extras.into_iter().flat_map(|extras| {
            // Another than the likely one may have been chosen.
            let likely = (!self.root.is_empty()).then_some(&extras.automatic_root);
            likely.into_iter().chain(&extras.other_models)
        });
        let is_within = |path: &str, other: &str| {
            let rest = path.strip_prefix(other);
            other.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        models
            .map(|(path, tensors)| (path.as_str(), *tensors))
            .filter(move |(path, _)| {
                self.root.is_empty()
                    || !(is_within(path, &self.root) || is_within(&self.root, path))
            })
    }

    /// The path that [`root`](Self::root) removed from all names.
    #[must_use]
    pub fn current_root(&self) -> &str {
        &self.root
    }

    /// The same checkpoint with only the tensors below `path`, named from there on: with
    /// `"state_dict"`, `state_dict.layer.weight` is `layer.weight`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no tensor is below it; the error lists paths that have some.
    pub fn root(&self, path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(self.clone());
        }
        let below = |entry: &Entry| {
            entry
                .name()
                .strip_prefix(path)?
                .strip_prefix('.')
                .map(Box::<str>::from)
        };
        let mut rooted = self.renamed(below)?;
        if rooted.catalog.is_empty() {
            let others: Vec<&str> = self
                .roots()
                .map(|(path, _)| path)
                .filter(|path| !path.is_empty())
                .collect();
            let (others, remedy) = match others.is_empty() {
                true => (String::new(), "leave the path out"),
                false => (
                    format!("; there are some below {}", listed(&others)),
                    "name one of these, or none",
                ),
            };
            let found = format!("no tensor is below {path:?}{others}");
            return Err(Error::new(ErrorKind::NotFound, found)
                .with_path(self.choice.chosen.clone())
                .with_remedy(remedy));
        }
        rooted.outside_root += self.catalog.len() - rooted.catalog.len();
        rooted.root = match self.root.is_empty() {
            true => path.to_owned(),
            false => format!("{}.{path}", self.root),
        };
        Ok(rooted)
    }

    /// The same checkpoint with only the tensors that are likely the model's, by its own names:
    /// those below [`automatic_root`](Self::automatic_root), without what `torch.compile` and
    /// sharded training put into the names of single layers.
    ///
    /// Rule: wrappers are taken off in any nesting and in every format, as far as names stay
    /// unique.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn model(&self) -> Result<Self> {
        let rooted = self.root(&self.automatic_root())?;
        let own_name = |entry: &Entry| names::without_wrappers(entry.name()).into_owned();
        let mut entries = rooted.catalog.entries().iter();
        if entries.all(|entry| own_name(entry) == entry.name()) {
            return Ok(rooted);
        }
        let renamed = rooted.renamed(|entry| Some(own_name(entry)));
        Ok(renamed.unwrap_or(rooted))
    }

    /// The same checkpoint with the names that `rename` gives, without the tensors for which it
    /// gives none.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let within = |name: &str| name.strip_prefix("encoder.").map(str::to_owned);
    /// let encoder = checkpoint.renamed(|entry| within(entry.name()))?;
    /// assert!(encoder.catalog().get("layer.0.output.dense.bias").is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if several tensors get one name; the error names them.
    pub fn renamed<N: Into<Box<str>>>(
        &self,
        rename: impl FnMut(&Entry) -> Option<N>,
    ) -> Result<Self> {
        let catalog = self.catalog.renamed(rename);
        let catalog = catalog.map_err(|error| Error::new(ErrorKind::Misuse, error))?;
        Ok(Self {
            catalog: Arc::new(catalog),
            ..self.clone()
        })
    }

    /// The same checkpoint with the shares of one rank of several, for tensors for which `slice`
    /// gives one.
    ///
    /// Shares are cut while they are read: they arrive in row-major order, and neither memory nor
    /// the bus to a device carries the rest.
    ///
    /// ```
    /// use tensorlift::{Checkpoint, Slice};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// // The second of two ranks: columns of what joins the heads, rows of the other matrices.
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let share = checkpoint.sliced(|entry| {
    ///     let dim = usize::from(entry.name().contains("output.dense"));
    ///     (entry.shape().len() == 2).then(|| Slice::rank(dim, 1, 2))
    /// })?;
    /// let loaded = share.loader().load()?;
    /// assert_eq!(loaded.tensor("encoder.layer.0.output.dense.weight")?.shape(), [32, 32]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if a tensor lacks the dimension.
    pub fn sliced(&self, slice: impl Fn(&Entry) -> Option<Slice>) -> Result<Self> {
        self.divided(|entry| slice(entry).map(|slice| [(entry.name().to_owned(), slice)]))
    }

    /// The same checkpoint with several named parts in place of each tensor for which `parts`
    /// returns some: a fused matrix as its queries, keys and values. Parts are cut as
    /// those of [`sliced`](Self::sliced) are.
    ///
    /// ```
    /// use tensorlift::{Checkpoint, Slice};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// // The first dimension in two parts.
    /// let halves = checkpoint.divided(|entry| {
    ///     let rows = *entry.shape().first()?;
    ///     let part = |name, rows| (format!("{}.{name}", entry.name()), Slice::range(0, rows));
    ///     Some([part("low", 0..rows / 2), part("high", rows / 2..rows)])
    /// })?;
    /// assert!(halves.loader().load()?.tensors().len() > checkpoint.catalog().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`sliced`](Self::sliced), and if two tensors get the same name.
    pub fn divided<N: Into<Box<str>>, P: IntoIterator<Item = (N, Slice)>>(
        &self,
        parts: impl Fn(&Entry) -> Option<P>,
    ) -> Result<Self> {
        let catalog = self.catalog.divided(parts);
        let catalog = catalog.map_err(|error| Error::new(ErrorKind::Misuse, error))?;
        Ok(Self {
            catalog: Arc::new(catalog),
            row_major: true,
            ..self.clone()
        })
    }

    /// The same checkpoint with one of its tensors alone, or with a part of that: each slice takes
    /// some indices of a dimension. It is cut as those of [`sliced`](Self::sliced) are.
    ///
    /// ```
    /// use tensorlift::{Checkpoint, Slice};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let name = "embeddings.word_embeddings.weight";
    /// let corner = checkpoint.part(name, [Slice::range(0, 2..4), Slice::range(1, 0..3)])?;
    /// assert_eq!(corner.loader().load()?.tensor(name)?.shape(), [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a name that is not there; [`ErrorKind::Misuse`] if the tensor
    /// lacks a dimension or an index.
    pub fn part(&self, name: &str, slices: impl IntoIterator<Item = Slice>) -> Result<Self> {
        let catalog = self.catalog.part(self.entry(name)?, slices);
        let catalog = catalog.map_err(|error| Error::new(ErrorKind::Misuse, error))?;
        Ok(Self {
            catalog: Arc::new(catalog),
            row_major: true,
            ..self.clone()
        })
    }

    /// What the files say of the tensor of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a name that is not there.
    pub fn entry(&self, name: &str) -> Result<&Entry> {
        self.catalog.get(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "it is not in the checkpoint")
                .with_tensor(name)
                .with_path(self.choice.chosen.clone())
        })
    }

    /// A loader of all its tensors into host memory.
    pub fn loader(&self) -> Loader<'_> {
        Loader::new(self)
    }

    /// The folder of the files: that of the index, or of the first file.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let folder = self.choice.chosen.parent();
        folder.map_or_else(PathBuf::new, Path::to_owned)
    }

    /// The name that an entry has in its file, as far as only a path was cut off it.
    pub(crate) fn name_in_file(&self, entry: &Entry) -> String {
        match self.root.as_str() {
            "" => entry.name().to_owned(),
            root => format!("{root}.{}", entry.name()),
        }
    }

    /// The files with their bytes, in the order in which [`ShardId`](crate::ShardId)s count them.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Whether tensors arrive in row-major order, whatever the options say.
    pub(crate) fn is_row_major(&self) -> bool {
        self.row_major
    }

    pub(crate) fn phases(&self) -> Phases {
        self.phases
    }
}
