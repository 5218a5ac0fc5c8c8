use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error as CandleError, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::{Shard, SimpleBackend, VarBuilderArgs};
use candle_nn::{Init, VarBuilder, var_builder::Backend};
use tensorlift::device::Device as _;
use tensorlift::{
    Checkpoint, Dtype, DtypePolicy, Entry, Error, ErrorKind, HostDevice, LoadOptions, LoadReport,
    Loader, Place, VecDevice,
};

use crate::memory;

/// The tensors of a checkpoint as candle tensors, with a record of those that a model requested.
///
/// Cheap to clone; all clones record into one list.
#[derive(Clone, Debug)]
pub struct Weights {
    shared: Arc<Shared>,
}

/// A builder for models that request the share of a rank.
pub type ShardedVarBuilder = VarBuilderArgs<'static, Weights>;

#[derive(Debug)]
struct Shared {
    tensors: HashMap<String, Tensor>,
    /// Tensors whose dtype candle does not have; they were not loaded.
    unsupported: HashMap<String, Dtype>,
    report: LoadReport,
    asked: Mutex<BTreeSet<String>>,
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
        let checkpoint = Checkpoint::open(target)?;
        Self::from_loader(&checkpoint, checkpoint.loader(), device)
    }

    /// The same in a dtype: floating-point tensors are converted while they are loaded, all others
    /// stay as they are.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(target: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(target)?;
        let policy = match memory::dtype_of(dtype) {
            Some(dtype @ (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)) => {
                DtypePolicy::To(dtype)
            }
            _ => DtypePolicy::Keep,
        };
        let options = LoadOptions::default().dtype(policy);
        Self::from_loader(&checkpoint, checkpoint.loader().options(options), device)
    }

    /// Loads with options of your own; the loader's placement is replaced.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_loader<'a>(
        checkpoint: &'a Checkpoint,
        loader: Loader<'a>,
        device: &Device,
    ) -> Result<Self, Error> {
        let is_supported = |entry: &Entry| memory::is_supported(entry.dtype());
        let loader = loader.select(is_supported);
        let loaded = match device {
            Device::Cpu => loader.place_on(VecDevice::new()),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => loader.place_on(crate::cuda::device(device)?),
            _ => return Err(no_device(device)),
        }
        .load()?;
        let report = loaded.report().clone();
        let (groups, places) = loaded.into_groups();
        let dtypes: HashMap<usize, Dtype> = (places.iter())
            .map(|place| (place.group, place.dtype))
            .collect();
        let flat = |(position, group)| match dtypes.get(&position) {
            Some(dtype) => memory::flat(group, *dtype, device),
            None => Ok(None),
        };
        let flats = groups.into_iter().enumerate().map(flat);
        let flats = flats.collect::<Result<Vec<_>, Error>>()?;
        let entries = checkpoint.catalog().entries();
        let tensors = places.iter().map(|place| {
            let entry = &entries[place.entry];
            let tensor = view(flats[place.group].as_ref(), place, entry);
            let named = |error| Error::new(ErrorKind::Unsupported, error).with_tensor(entry.name());
            Ok((entry.name().to_owned(), tensor.map_err(named)?))
        });
        let tensors = tensors.collect::<Result<_, Error>>()?;
        let entries = entries.iter();
        let unsupported = entries
            .filter(|entry| !is_supported(entry))
            .map(|entry| (entry.name().to_owned(), entry.dtype()));
        Ok(Self {
            shared: Arc::new(Shared {
                tensors,
                unsupported: unsupported.collect(),
                report,
                asked: Mutex::default(),
            }),
        })
    }
}

/// # Tensors
impl Weights {
    /// A builder for candle models.
    #[must_use]
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// A builder for models that request shares, as candle's tensor-parallel layers do.
    #[must_use]
    pub fn sharded_var_builder(&self, dtype: DType, device: &Device) -> ShardedVarBuilder {
        VarBuilderArgs::new_with_args(self.clone(), dtype, device)
    }

    /// The tensor of this name, recorded as requested.
    ///
    /// # Errors
    /// If it is not in the checkpoint, or has a dtype that candle does not have.
    pub fn tensor(&self, name: &str) -> CandleResult<&Tensor> {
        self.asked_mut().insert(name.to_owned());
        if let Some(dtype) = self.shared.unsupported.get(name) {
            let error = Error::new(
                ErrorKind::Unsupported,
                format!("candle has no dtype {dtype}"),
            )
            .with_tensor(name)
            .with_remedy("convert the checkpoint to a dtype that candle has");
            return Err(CandleError::wrap(error));
        }
        self.shared.tensors.get(name).ok_or_else(|| {
            let path = name.to_owned();
            CandleError::CannotFindTensor { path }.bt()
        })
    }
}

/// # Records
impl Weights {
    /// The requested names, sorted.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked_mut().iter().cloned().collect()
    }

    /// The names of the checkpoint that were not requested, sorted.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let asked = self.asked_mut();
        let names = self.names().filter(|name| !asked.contains(*name));
        names
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The requested names that the checkpoint lacks, sorted.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut asked = self.asked();
        asked.retain(|name| !self.contains(name));
        asked
    }

    /// The report of the load.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.shared.report
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        (self.shared.tensors.keys()).chain(self.shared.unsupported.keys())
    }

    fn contains(&self, name: &str) -> bool {
        self.shared.tensors.contains_key(name) || self.shared.unsupported.contains_key(name)
    }

    fn asked_mut(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        let tensor = self.tensor(name)?;
        if tensor.shape() != &shape {
            return Err(CandleError::UnexpectedShape {
                msg: format!("shape mismatch for {name}"),
                expected: shape,
                got: tensor.shape().clone(),
            }
            .bt());
        }
        tensor.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        self.tensor(name)?.to_device(device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

impl Backend for Weights {
    type Hints = Shard;

    /// As candle's own: the shape is checked where there is one rank, and a share is an even part
    /// of its dimension.
    fn get(
        &self,
        shape: Shape,
        name: &str,
        shard: Shard,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        let Shard {
            dim,
            rank,
            world_size,
        } = shard;
        if world_size == 1 {
            return SimpleBackend::get(self, shape, name, Init::Const(0.), dtype, device);
        }
        let tensor = self.tensor(name)?;
        let size = tensor.dim(dim)?;
        if world_size == 0 || rank >= world_size || size % world_size != 0 {
            return Err(CandleError::ShapeMismatchSplit {
                shape: tensor.shape().clone(),
                dim,
                n_parts: world_size,
            }
            .bt());
        }
        let len = size / world_size;
        let share = tensor.narrow(dim, rank * len, len)?;
        // A copy, so that the whole allocation can be freed.
        share.force_contiguous()?.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        SimpleBackend::get_unchecked(self, name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

/// The part of its group's flat tensor that a loaded tensor is; nothing is copied unless it is
/// strided.
fn view(flat: Option<&Tensor>, place: &Place, entry: &Entry) -> CandleResult<Tensor> {
    let flat = flat.ok_or_else(|| CandleError::msg("the group is none of candle's"))?;
    let start = place.offset as usize / flat.dtype().size_in_bytes();
    let (shape, layout) = (entry.shape(), entry.layout());
    if place.row_major {
        return flat.narrow(0, start, layout.elements())?.reshape(shape);
    }
    // A view with stride 0 may be far larger than its bytes.
    let bytes = (layout.elements() as u64).saturating_mul(2 * size_of::<i64>() as u64);
    let reserved = HostDevice::new().reserve(bytes);
    reserved.map_err(CandleError::wrap)?;
    gather(flat, start, shape, &layout.element_strides())
}

/// The elements of a strided tensor in row-major order.
fn gather(flat: &Tensor, start: usize, shape: &[usize], strides: &[usize]) -> CandleResult<Tensor> {
    let mut positions = vec![start as i64];
    for (&size, &stride) in shape.iter().zip(strides) {
        let steps = (0..size).map(|index| (index * stride) as i64);
        let steps: Vec<i64> = steps.collect();
        positions = positions
            .iter()
            .flat_map(|position| steps.iter().map(move |step| position + step))
            .collect();
    }
    let positions = Tensor::new(positions, flat.device())?;
    flat.index_select(&positions, 0)?.reshape(shape)
}

fn no_device(device: &Device) -> Error {
    let found = format!(
        "tensors cannot be loaded to {:?} by this build",
        device.location()
    );
    Error::new(ErrorKind::Unsupported, found)
        .with_remedy("load to the CPU, or build tensorlift-candle with the feature of the device")
}
