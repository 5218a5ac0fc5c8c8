//! candle-nn: every tensor of a model, asked for as its layers ask.

use std::path::PathBuf;

use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Shape, Tensor, pickle as candle_pickle};
use candle_nn::VarBuilder;
use safetensors::View;
use tensorlift_bench_protocol::{Checksum, Request, Result, measure};
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
        sum(&asked, tensors, checksum)
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
        sum(&asked, tensors, checksum)
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

fn sum(asked: &[Asked], tensors: &[Tensor], checksum: &mut Checksum) -> Result<()> {
    for (asked, tensor) in asked.iter().zip(tensors) {
        let bytes = tensor.data();
        match (asked.dtype, tensor.dtype()) {
            // The upper halves are the elements as they were.
            (DType::BF16, DType::F32) => {
                let halves = bytes.chunks_exact(4).flat_map(|it| [it[2], it[3]]);
                checksum.tensor(&asked.name, &halves.collect::<Vec<u8>>());
            }
            _ => checksum.tensor(&asked.name, &bytes),
        }
    }
    Ok(())
}
