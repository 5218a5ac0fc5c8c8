use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tensorlift_loader::{Phases, Shard};
use tensorlift_shard_index::{
    Choice, Companions, HeldTensor, IndexUse, Merged, ResolveOptions, Resolved, WeightFormat,
    resolve, resolve_files,
};
use tensorlift_storage::{FileStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind, Limits, Result};
use tracing::{debug_span, info_span};

use crate::checkpoint::{Checkpoint, Held};
use crate::formats::torch::Policy;
use crate::formats::{self, Extras, ParseOptions, Parsed};
use crate::{aliases, foreign, parallel};

/// If there are more shards than this, each is closed and reopened when it is read, to save
/// descriptors.
const KEPT_OPEN: usize = 16;

/// How a checkpoint is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub(crate) resolve: ResolveOptions,
    policy: Policy,
    fallback: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            resolve: ResolveOptions::new().sniff(foreign::sniff),
            policy: Policy::default(),
            fallback: false,
        }
    }
}

impl OpenOptions {
    /// Ceilings for untrusted input. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.resolve.limits = limits;
        self
    }

    /// How classes that are not plain data in PyTorch files are treated. Default:
    /// [`Policy::Inert`]: their objects become data, and nothing is run.
    #[cfg(feature = "torch")]
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

    /// The format that is taken where a folder has both. Default: safetensors.
    #[must_use]
    pub fn preferred_format(mut self, format: WeightFormat) -> Self {
        self.resolve.preferred = format;
        self
    }

    /// Whether the files of the other format are taken where those of the preferred one cannot be
    /// opened. Default: no, that is an error.
    ///
    /// [`Checkpoint::choice`] and reports say what was refused, and why. Opening reads what a file
    /// lists and checks that all its bytes are there; it does not read tensors.
    ///
    /// ```
    /// use tensorlift::{Checkpoint, WeightFormat};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let options = Checkpoint::options().preferred_format(WeightFormat::Torch).fallback(true);
    /// let checkpoint = options.open("fixtures/tiny-model")?;
    /// for other in &checkpoint.choice().passed_over {
    ///     println!("{other}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn fallback(mut self, fallback: bool) -> Self {
        self.fallback = fallback;
        self
    }

    /// The Hugging Face cache to look in. Default: as Python's `huggingface_hub` finds it.
    #[must_use]
    pub fn hub_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.resolve.cache = Some(folder.into());
        self
    }

    /// Which index of a folder is used. Default: [`IndexUse::Auto`].
    #[must_use]
    pub fn index(mut self, index: IndexUse) -> Self {
        self.resolve.index = index;
        self
    }

    /// Opens a checkpoint; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(&self, target: impl AsRef<Path>) -> Result<Checkpoint> {
        let target = target.as_ref();
        let opened = self.open_resolved(|| resolve(target, &self.resolve));
        match opened {
            Err(error) if self.fallback => self.open_other(target, error),
            opened => opened,
        }
    }

    /// Opens the files of the other format, since `refused` says why those of the preferred one
    /// cannot be.
    fn open_other(&self, target: &Path, refused: Error) -> Result<Checkpoint> {
        let chosen = |options: &ResolveOptions| Some(resolve(target, options).ok()?.choice.chosen);
        let other = self.resolve.clone();
        let other = other.preferred(self.resolve.preferred.other());
        let (first, second) = (chosen(&self.resolve), chosen(&other));
        if second.is_none() || second == first {
            return Err(refused);
        }
        let Ok(mut checkpoint) = self.open_resolved(|| resolve(target, &other)) else {
            return Err(refused);
        };
        let named = first.or_else(|| refused.path().map(Path::to_owned));
        let path = named.unwrap_or_else(|| target.to_owned());
        checkpoint.choice.refuse(path, refused.to_string());
        tracing::warn!(chosen = %checkpoint.choice.chosen.display(), %refused, "fell back");
        Ok(checkpoint)
    }

    /// Opens these files as the shards of one checkpoint, in this order, whatever their names and
    /// any index.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and if two of them hold tensors with the same name.
    pub fn open_files<P: Into<PathBuf>>(
        &self,
        files: impl IntoIterator<Item = P>,
    ) -> Result<Checkpoint> {
        let files: Vec<PathBuf> = files.into_iter().map(Into::into).collect();
        self.open_resolved(|| resolve_files(&files))
    }

    fn open_resolved(
        &self,
        resolve: impl FnOnce() -> Result<Resolved, tensorlift_shard_index::Error>,
    ) -> Result<Checkpoint> {
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();

        let resolved = info_span!("resolve").in_scope(resolve)?;
        phases.resolve = lap();

        let shards = info_span!("open", files = resolved.shards.len())
            .in_scope(|| open_all(&resolved.shards))?;
        phases.open = lap();

        let span = info_span!("parse").entered();
        let (shards, catalogs, extras) = self.parse(shards)?;
        let Listed {
            catalog,
            unlisted,
            copies,
        } = merge(&resolved, catalogs)?;
        let catalog = with_aliases(catalog, &extras)?;
        drop(span);
        phases.parse = lap();

        tracing::info!(choice = %resolved.choice, tensors = catalog.len(), "opened");
        Ok(Checkpoint {
            catalog,
            shards,
            extras: extras.into(),
            root: String::new(),
            outside_root: 0,
            row_major: false,
            choice: resolved.choice,
            companions: resolved.companions,
            unlisted,
            copies,
            phases,
        })
    }

    /// Opens one file from any [`Storage`]; see [`Checkpoint::from_storage`].
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
            catalog: with_aliases(catalogs.remove(0), &extras)?,
            extras: extras.into(),
            root: String::new(),
            outside_root: 0,
            row_major: false,
            choice: Choice::file(shards[0].path()),
            companions: Companions::default(),
            unlisted: Arc::default(),
            copies: Arc::default(),
            phases,
            shards,
        })
    }

    /// Reads what each shard lists, several at once; the shards come back with their formats.
    pub(crate) fn parse(&self, shards: Vec<Shard>) -> Result<ParsedShards> {
        let releases = shards.len() > KEPT_OPEN;
        let options = ParseOptions {
            limits: &self.resolve.limits,
            policy: self.policy,
        };
        let span = tracing::Span::current();
        let parse = |shard: &Shard| {
            let path = shard.path().display();
            let _span = debug_span!(parent: &span, "parse_file", %path).entered();
            let storage = shard.storage();
            let parsed = formats::parse(&**storage, shard.path(), &options)?;
            let (format, tensors) = (parsed.format, parsed.catalog.len());
            tracing::debug!(format, tensors, bytes = storage.len(), "file parsed");
            if releases {
                storage.release();
            }
            Ok((shard.clone().with_format(parsed.format), parsed))
        };
        let parsed: Vec<(Shard, Parsed)> = parallel::map(&shards, parse)?;
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
            // This releases the catalogs too, so that they are merged without a copy.
            all_extras
                .iter_mut()
                .for_each(|extras: &mut Extras| extras.state = None);
        }
        Ok((shards, catalogs, all_extras))
    }
}

/// The shards, their catalogs and their other contents.
pub(crate) type ParsedShards = (Vec<Shard>, Vec<Arc<Catalog>>, Vec<Extras>);

pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<Shard>> {
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

/// The catalog with the additional names from the metadata of safetensors files.
fn with_aliases(catalog: Arc<Catalog>, extras: &[Extras]) -> Result<Arc<Catalog>> {
    match extras.is_empty() {
        true => aliases::add(catalog).map_err(|error| Error::new(ErrorKind::Malformed, error)),
        false => Ok(catalog),
    }
}

/// The combined catalog of the shards.
struct Listed {
    catalog: Arc<Catalog>,
    unlisted: Arc<[Held]>,
    copies: Arc<[Held]>,
}

/// One catalog of all shards; a single file's is used unchanged.
fn merge(resolved: &Resolved, mut catalogs: Vec<Arc<Catalog>>) -> Result<Listed> {
    if resolved.index.is_none() && catalogs.len() == 1 {
        return Ok(Listed {
            catalog: catalogs.remove(0),
            unlisted: Arc::default(),
            copies: Arc::default(),
        });
    }
    let catalogs = catalogs.into_iter().map(Arc::unwrap_or_clone).collect();
    let Merged {
        catalog,
        unlisted,
        copies,
        ..
    } = resolved.merge(catalogs)?;
    let held = |tensors: Vec<HeldTensor>| {
        let held = tensors
            .into_iter()
            .map(|HeldTensor { name, shard, .. }| Held {
                name,
                file: resolved.shards[shard.index()].clone(),
            });
        held.collect()
    };
    Ok(Listed {
        catalog: Arc::new(catalog),
        unlisted: held(unlisted),
        copies: held(copies),
    })
}
