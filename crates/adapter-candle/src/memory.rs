//! Loaded memory as candle owns it: each group is a flat tensor of one dtype, and tensors are
//! parts of it.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, DType, Device as CandleDevice, Result as CandleResult, Storage, Tensor,
};
use tensorlift::device::Group;
use tensorlift::{
    Catalog, Dtype, Entry, Error, ErrorKind, Loaded, Loader, Mode, VecDevice, VecGroup, take_group,
};

/// The dtypes that both know and whose elements are whole bytes. Of two for one of candle's, the
/// first is the one that it means.
const DTYPES: [(DType, Dtype); 12] = [
    (DType::U8, Dtype::U8),
    (DType::U8, Dtype::Bool),
    (DType::U32, Dtype::U32),
    (DType::I16, Dtype::I16),
    (DType::I32, Dtype::I32),
    (DType::I64, Dtype::I64),
    (DType::BF16, Dtype::BF16),
    (DType::F16, Dtype::F16),
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
    (DType::F8E4M3, Dtype::F8E4M3),
    (DType::F8E8M0, Dtype::F8E8M0),
];

/// candle's dtype for the elements of a tensor.
pub(crate) fn of_candle(dtype: Dtype) -> Option<DType> {
    let found = DTYPES.iter().find(|(_, ours)| *ours == dtype);
    found.map(|(candle, _)| *candle)
}

/// The dtype that one of candle's means.
pub(crate) fn of_tensorlift(dtype: DType) -> Option<Dtype> {
    let found = DTYPES.iter().find(|(candle, _)| *candle == dtype);
    found.map(|(_, ours)| *ours)
}

/// The loader for tensors that candle has dtypes for, as [`tensors`] takes them.
pub(crate) fn placed<'a>(loader: Loader<'a>, device: &CandleDevice) -> Result<Loader<'a>, Error> {
    let loader = loader
        .select(|entry| of_candle(entry.dtype()).is_some())
        .change_options(|options| options.mode(Mode::Copy).row_major(true));
    match device {
        CandleDevice::Cpu => Ok(loader.place_on(VecDevice::new())),
        #[cfg(feature = "cuda")]
        CandleDevice::Cuda(device) => Ok(loader.place_on(crate::cuda::device(device)?)),
        _ => Err(no_device(device)),
    }
}

fn no_device(device: &CandleDevice) -> Error {
    let found = format!(
        "tensors cannot be loaded to {:?} by this build",
        device.location()
    );
    Error::new(ErrorKind::Unsupported, found)
        .with_remedy("load to the CPU, or build tensorlift-candle with the feature of the device")
}

/// Loaded tensors as candle's, by name; nothing is copied.
///
/// They must be in row-major order, in groups of one dtype.
pub(crate) fn tensors(
    loaded: Loaded,
    device: &CandleDevice,
) -> Result<HashMap<String, Tensor>, Error> {
    let catalog = Arc::clone(loaded.catalog());
    let (groups, mut places) = loaded.into_groups();
    places.sort_by_key(|place| place.group);
    let mut tensors = HashMap::with_capacity(places.len());
    // Every group has a tensor.
    let of_groups = places.chunk_by(|one, other| one.group == other.group);
    for (group, places) in groups.into_iter().zip(of_groups) {
        let flat = flat(group, places[0].dtype, device)?;
        for place in places {
            let entry = &catalog.entries()[place.entry];
            let (shape, elements) = (entry.shape(), entry.layout().elements());
            let start = place.offset as usize / flat.dtype().size_in_bytes();
            let part = flat.narrow(0, start, elements);
            let tensor = part.and_then(|part| part.reshape(shape)).map_err(|error| {
                Error::new(ErrorKind::Unsupported, error).with_tensor(entry.name())
            })?;
            tensors.insert(entry.name().to_owned(), tensor);
        }
    }
    Ok(tensors)
}

/// A group whose elements are of this dtype as one flat tensor.
fn flat(group: Arc<dyn Group>, dtype: Dtype, device: &CandleDevice) -> Result<Tensor, Error> {
    // Elements of these dtypes are aligned to their size.
    let elements = group.len() / dtype.alignment();
    let storage = match device {
        #[cfg(feature = "cuda")]
        CandleDevice::Cuda(device) => crate::cuda::storage(group, dtype, device)?,
        _ => take_group(group)
            .ok()
            .and_then(|group| storage(group, dtype)),
    };
    let foreign = || Error::new(ErrorKind::Device, "the group's memory is none of candle's");
    let storage = storage.ok_or_else(foreign)?;
    Ok(Tensor::from_storage(
        storage,
        elements,
        BackpropOp::none(),
        false,
    ))
}

/// A vector as candle's.
fn storage(group: VecGroup, dtype: Dtype) -> Option<Storage> {
    Some(Storage::Cpu(match (group, dtype) {
        (VecGroup::U8(bytes), Dtype::F8E8M0) => CpuStorage::F8E8M0(bytes),
        (VecGroup::U8(bytes), Dtype::F8E4M3) => CpuStorage::F8E4M3(bytemuck::cast_vec(bytes)),
        (VecGroup::U8(bytes), _) => CpuStorage::U8(bytes),
        (VecGroup::I16(elements), _) => CpuStorage::I16(elements),
        (VecGroup::F16(elements), _) => CpuStorage::F16(elements),
        (VecGroup::BF16(elements), _) => CpuStorage::BF16(elements),
        (VecGroup::I32(elements), _) => CpuStorage::I32(elements),
        (VecGroup::U32(elements), _) => CpuStorage::U32(elements),
        (VecGroup::F32(elements), _) => CpuStorage::F32(elements),
        (VecGroup::I64(elements), _) => CpuStorage::I64(elements),
        (VecGroup::F64(elements), _) => CpuStorage::F64(elements),
        _ => return None,
    }))
}

/// A tensor of zeros that takes no memory: one element, in every place.
pub(crate) fn zeros(shape: &[usize], dtype: DType, device: &CandleDevice) -> CandleResult<Tensor> {
    Tensor::zeros((), dtype, device)?.broadcast_as(shape)
}

/// Zeros in place of the tensors of a catalog, floats in a dtype.
pub(crate) fn zeros_of(
    catalog: &Catalog,
    dtype: DType,
    device: &CandleDevice,
) -> CandleResult<HashMap<String, Tensor>> {
    let named = |entry: &Entry| {
        let stored = of_candle(entry.dtype())?;
        let dtype = if stored.is_float() { dtype } else { stored };
        let zeros = zeros(entry.shape(), dtype, device);
        Some(zeros.map(|zeros| (entry.name().to_owned(), zeros)))
    };
    catalog.entries().iter().filter_map(named).collect()
}
