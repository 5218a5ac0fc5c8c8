use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::{Shard, VarBuilderArgs};
use tensorlift::skeleton::{FillRules, Skeleton};
use tensorlift::{
    Catalog, Checkpoint, Dtype, DtypePolicy, Error, ErrorKind, LoadOptions, LoadReport, Loaded,
    Loader, Slice,
};

use crate::memory;

/// The tensors of a checkpoint as candle tensors, with a record of those that a model requested.
///
/// Cheap to clone; all clones record into one list.
///
/// ```
/// use candle_core::{DType, Device};
/// use tensorlift_candle::Weights;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
/// let weights = Weights::load("fixtures/tiny-model", &Device::Cpu)?;
/// let builder = weights.var_builder(DType::F32, &Device::Cpu).pp("embeddings");
/// let norm = candle_nn::layer_norm(32, 1e-12, builder.pp("LayerNorm"))?;
/// assert_eq!(weights.asked(), ["embeddings.LayerNorm.bias", "embeddings.LayerNorm.weight"]);
/// println!("not used: {:?}", weights.unused());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Weights {
    pub(crate) shared: Arc<Shared>,
}

/// A builder for models that request the share of a rank.
pub type ShardedVarBuilder = VarBuilderArgs<'static, Weights>;

#[derive(Debug)]
pub(crate) struct Shared {
    /// By name, or by [`name_of`] a share.
    pub(crate) tensors: HashMap<String, Tensor>,
    /// Those of all tensors of the checkpoint.
    pub(crate) dtypes: HashMap<String, Dtype>,
    /// Whether the tensors are zeros without memory, there to record what a model requests.
    pub(crate) is_recorder: bool,
    report: LoadReport,
    /// What was requested of each tensor.
    asked: Mutex<BTreeMap<String, Vec<Shard>>>,
}

/// # Loading
impl Weights {
    /// Loads every tensor of a file, a folder, an index file or a model in the Hugging Face cache
    /// to a device of candle's.
    ///
    /// Dtypes stay as in the files until a tensor is requested in another one.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Loader::load`]; [`ErrorKind::Unsupported`] for a device that
    /// this build cannot load to.
    pub fn load(target: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::from_loader(Checkpoint::open(target)?.loader(), device)
    }

    /// The same in a dtype: floating-point tensors are converted while they are loaded, all others
    /// stay as they are.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(target: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self, Error> {
        let options = LoadOptions::default().dtype(floats_as(dtype));
        Self::from_loader(Checkpoint::open(target)?.loader().options(options), device)
    }

    /// Loads what a loader of your own selects, by its options; its placement is replaced.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_loader(loader: Loader<'_>, device: &Device) -> Result<Self, Error> {
        let loaded = memory::placed(loader, device)?.load()?;
        let catalog = Arc::clone(loaded.catalog());
        Self::from_loaded(&catalog, loaded, device)
    }

    /// Fills the parameters of a skeleton, such as [`skeleton_of`](crate::skeleton_of) records, by
    /// rules for names, shapes and dtypes.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, linear};
    /// use tensorlift::{Checkpoint, skeleton::FillRules};
    /// use tensorlift_candle::{Weights, skeleton_of};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    /// let build = |weights: VarBuilder<'static>| linear(32, 96, weights.pp("attention.qkv"));
    /// let skeleton = skeleton_of(DType::F32, build)?;
    /// let parts = |kind: &str| ["query", "key", "value"].map(|it| format!("*.self.{it}.{kind}"));
    /// let rules = FillRules::new()
    ///     .rename("encoder.layer.0.*", "*")
    ///     .fuse(parts("weight"), "*.qkv.weight", 0)
    ///     .fuse(parts("bias"), "*.qkv.bias", 0)
    ///     .ignore("*");
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let weights = Weights::fill(checkpoint.loader(), &skeleton, &rules, &Device::Cpu)?;
    /// let layer = build(weights.var_builder(DType::F32, &Device::Cpu))?;
    /// assert_eq!(layer.weight().dims(), [96, 32]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Loader::fill_by`] and [`load`](Self::load).
    pub fn fill(
        loader: Loader<'_>,
        skeleton: &Skeleton,
        rules: &FillRules,
        device: &Device,
    ) -> Result<Self, Error> {
        let loaded = memory::placed(loader, device)?.fill_by(skeleton, rules)?;
        let catalog = Arc::clone(loaded.catalog());
        Self::from_loaded(&catalog, loaded, device)
    }

    /// Loads what a model of one rank requests and nothing else: shares are cut while they are
    /// read, so that neither memory nor the bus to a device carries what other ranks have.
    ///
    /// `build` builds the model, here from zeros that take no memory, to learn what it requests;
    /// build it again from the [builder](Self::sharded_var_builder) of what is returned.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::var_builder::Shard;
    /// use tensorlift_candle::{ShardedVarBuilder, Weights};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    /// let build = |weights: ShardedVarBuilder| {
    ///     let rows = Shard { dim: 0, rank: 1, world_size: 2 };
    ///     weights.get_with_hints((), "encoder.layer.0.intermediate.dense.weight", rows)
    /// };
    /// let weights = Weights::load_shares("fixtures/tiny-model", DType::F32, &Device::Cpu, build)?;
    /// let matrix = build(weights.sharded_var_builder(DType::F32, &Device::Cpu))?;
    /// assert_eq!(weights.report().bytes_wanted as usize, matrix.elem_count() * 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`load_as`](Self::load_as), and those of `build`.
    pub fn load_shares<M>(
        target: impl AsRef<Path>,
        dtype: DType,
        device: &Device,
        build: impl FnOnce(ShardedVarBuilder) -> CandleResult<M>,
    ) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(target)?;
        let catalog = checkpoint.catalog();
        let failed = |error| Error::new(ErrorKind::Misuse, error);
        let zeros = memory::zeros_of(catalog, dtype, device).map_err(failed)?;
        let recorder = Self::new(catalog, zeros, true, LoadReport::default());
        build(recorder.sharded_var_builder(dtype, device)).map_err(failed)?;
        let asked = recorder.asked_mut();

        let shares = checkpoint.divided(|entry| {
            let shards = asked.get(entry.name())?;
            let is_whole = shards.iter().all(|shard| shard.world_size == 1);
            let share = |shard: &Shard| {
                let slice = Slice::rank(shard.dim, shard.rank, shard.world_size);
                (name_of(entry.name(), *shard), slice)
            };
            (!is_whole).then(|| shards.iter().map(share).collect::<Vec<_>>())
        })?;
        let wanted = asked
            .iter()
            .flat_map(|(name, shards)| shards.iter().map(|shard| name_of(name, *shard)));
        let wanted: BTreeSet<String> = wanted.collect();
        let options = LoadOptions::default().dtype(floats_as(dtype));
        let loader = shares.loader().options(options);
        let loader = loader.select(|entry| wanted.contains(entry.name()));
        Self::from_loaded(catalog, memory::placed(loader, device)?.load()?, device)
    }

    fn from_loaded(catalog: &Catalog, loaded: Loaded, device: &Device) -> Result<Self, Error> {
        let report = loaded.report().clone();
        let tensors = memory::tensors(loaded, device)?;
        Ok(Self::new(catalog, tensors, false, report))
    }

    fn new(
        catalog: &Catalog,
        tensors: HashMap<String, Tensor>,
        is_recorder: bool,
        report: LoadReport,
    ) -> Self {
        let dtypes = catalog.entries().iter();
        let dtypes = dtypes.map(|entry| (entry.name().to_owned(), entry.dtype()));
        Self {
            shared: Arc::new(Shared {
                tensors,
                dtypes: dtypes.collect(),
                is_recorder,
                report,
                asked: Mutex::default(),
            }),
        }
    }
}

/// # Building models
impl Weights {
    /// A builder for candle models.
    #[must_use]
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// A builder for models that request shares, as tensor-parallel layers do.
    ///
    /// Of tensors that were loaded whole, shares are copies.
    #[must_use]
    pub fn sharded_var_builder(&self, dtype: DType, device: &Device) -> ShardedVarBuilder {
        VarBuilderArgs::new_with_args(self.clone(), dtype, device)
    }
}

/// # Records
impl Weights {
    /// The requested names, sorted.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked_mut().keys().cloned().collect()
    }

    /// The names of the checkpoint that were not requested, sorted.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let asked = self.asked_mut();
        let names = self.shared.dtypes.keys();
        let unused = names.filter(|name| !asked.contains_key(*name));
        let unused: BTreeSet<&String> = unused.collect();
        unused.into_iter().cloned().collect()
    }

    /// The requested names that the checkpoint lacks, sorted.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut asked = self.asked();
        asked.retain(|name| !self.shared.dtypes.contains_key(name));
        asked
    }

    /// The report of the load.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.shared.report
    }

    pub(crate) fn record(&self, name: &str, shard: Shard) {
        let mut asked = self.asked_mut();
        let shards = asked.entry(name.to_owned()).or_default();
        if !shards.contains(&shard) {
            shards.push(shard);
        }
    }

    fn asked_mut(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Shard>>> {
        let asked = self.shared.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which a share is kept; a whole tensor has its own.
pub(crate) fn name_of(tensor: &str, shard: Shard) -> String {
    let Shard {
        dim,
        rank,
        world_size,
    } = shard;
    match world_size {
        1 => tensor.to_owned(),
        _ => format!("{tensor} (rank {rank} of {world_size}, dimension {dim})"),
    }
}

/// Floats in a dtype, if it is one that they are converted to while they are loaded.
fn floats_as(dtype: DType) -> DtypePolicy {
    match memory::of_tensorlift(dtype) {
        Some(dtype @ (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)) => {
            DtypePolicy::To(dtype)
        }
        _ => DtypePolicy::Keep,
    }
}
