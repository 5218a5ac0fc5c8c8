//! candle-nn: every tensor of a model, asked for as its layers ask.

use std::borrow::Cow;
use std::path::PathBuf;

use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Shape, Tensor, pickle as candle_pickle};
use candle_nn::VarBuilder;
use safetensors::View;
use tensorlift_bench_protocol::{Request, Result, measure};
use tensorlift_storage::{MapStorage, Storage};

/// A tensor that the model asks for.
struct Asked {
    name: String,
    shape: Shape,
    /// As it is stored.
    dtype: DType,
}

/// `VarBuilder::from_mmaped_safetensors`; with `floats`, floats are asked for in that dtype.
pub(crate) fn mapped(request: &Request, floats: Option<DType>) -> Result<()> {
    let files = request.files()?;
    // A model knows its shapes.
    let mut asked = Vec::new();
    for file in &files {
        asked.extend(listed(file)?);
    }
    let load = || {
        // SAFETY: nobody changes the files while they are measured.
        #[allow(unsafe_code)]
        let builder =
            unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &Device::Cpu) }?;
        ask(&builder, &asked, floats)
    };
    measure(request, load, |tensors, checksum, _| {
        let mut loaded = asked.iter().zip(tensors);
        for file in &files {
            let map = MapStorage::open(file)?;
            let header = SliceSafetensors::new(map.as_slice().ok_or("a mapping is a slice")?)?;
            for (asked, tensor) in loaded.by_ref().take(header.tensors().len()) {
                // By name: each call of `tensors` has its own order.
                let stored = header.get(&asked.name)?;
                let bytes = tensor.data();
                let bytes = as_stored(&bytes, tensor.dtype(), stored.data());
                checksum.tensor(&asked.name, &bytes);
            }
        }
        Ok(())
    })
}

/// `VarBuilder::from_pth`, of one file.
pub(crate) fn pth(request: &Request) -> Result<()> {
    let infos = candle_pickle::read_pth_tensor_info(&request.path, false, None)?;
    let asked = infos.into_iter().map(|info| Asked {
        shape: info.layout.shape().clone(),
        name: info.name,
        dtype: info.dtype,
    });
    let asked: Vec<Asked> = asked.collect();
    let load = || {
        let builder = VarBuilder::from_pth(&request.path, DType::F32, &Device::Cpu)?;
        ask(&builder, &asked, None)
    };
    measure(request, load, |tensors, checksum, _| {
        for (asked, tensor) in asked.iter().zip(tensors) {
            checksum.tensor(&asked.name, &tensor.data());
        }
        Ok(())
    })
}

fn listed(file: &PathBuf) -> Result<Vec<Asked>> {
    let map = MapStorage::open(file)?;
    let header = SliceSafetensors::new(map.as_slice().ok_or("a mapping is a slice")?)?;
    let tensors = header.tensors().into_iter();
    let tensors = tensors.map(|(name, view)| {
        Ok(Asked {
            name,
            shape: Shape::from(view.shape()),
            dtype: view.dtype().try_into()?,
        })
    });
    tensors.collect()
}

fn ask(builder: &VarBuilder<'_>, asked: &[Asked], floats: Option<DType>) -> Result<Vec<Tensor>> {
    let get = |it: &Asked| {
        let dtype = floats.filter(|_| it.dtype.is_float()).unwrap_or(it.dtype);
        let hints = Default::default();
        Ok(builder.get_with_hints_dtype(it.shape.clone(), &it.name, hints, dtype)?)
    };
    asked.iter().map(get).collect()
}

/// The bytes that elements had before BF16 became F32: the upper halves. candle makes every NaN a
/// quiet one, so those that were NaN and are count as they were.
fn as_stored<'a>(found: &'a [u8], dtype: DType, stored: &[u8]) -> Cow<'a, [u8]> {
    if dtype != DType::F32 || found.len() == stored.len() {
        return Cow::Borrowed(found);
    }
    let is_nan = |half: [u8; 2]| u16::from_le_bytes(half) & 0x7fff > 0x7f80;
    let halves = found.chunks_exact(4).zip(stored.chunks_exact(2));
    let halves = halves.flat_map(|(found, stored)| {
        let (found, stored) = ([found[2], found[3]], [stored[0], stored[1]]);
        match is_nan(found) && is_nan(stored) {
            true => stored,
            false => found,
        }
    });
    Cow::Owned(halves.collect())
}
