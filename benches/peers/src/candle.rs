//! candle-core: its two ways with safetensors, and its pickle reader.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{Device, Tensor, pickle as candle_pickle, safetensors as candle_safetensors};
use safetensors::View;
use tensorlift_bench_protocol::{Checksum, Outcome, Request, Result, measure};
use tensorlift_storage::{MapStorage, Storage};

type Tensors = Vec<(String, Tensor)>;

/// `candle_core::safetensors::load`: reads the file, then copies every tensor.
pub(crate) fn load(request: &Request) -> Result<()> {
    let load = || {
        let mut tensors = Tensors::new();
        for path in request.files()? {
            tensors.extend(candle_safetensors::load(path, &Device::Cpu)?);
        }
        Ok(tensors)
    };
    measure(request, load, sum)
}

/// What `MmapedSafetensors` does, over a mapping of our own: each tensor is copied out of it.
pub(crate) fn mapped(request: &Request) -> Result<()> {
    let load = || {
        let mut tensors = Tensors::new();
        for path in request.files()? {
            let map = MapStorage::open(path)?;
            let bytes = map.as_slice().ok_or("a mapping is a slice")?;
            let file = SliceSafetensors::new(bytes)?;
            for (name, _) in file.tensors() {
                let tensor = file.load(&name, &Device::Cpu)?;
                tensors.push((name, tensor));
            }
        }
        Ok(tensors)
    };
    measure(request, load, sum)
}

/// `candle_core::pickle::read_all`.
pub(crate) fn pickle(request: &Request) -> Result<()> {
    let load = || {
        let mut tensors = Tensors::new();
        for path in request.files()? {
            tensors.extend(candle_pickle::read_all(path)?);
        }
        Ok(tensors)
    };
    measure(request, load, sum)
}

fn sum(tensors: &Tensors, checksum: &mut Checksum, _: &mut Outcome) -> Result<()> {
    for (name, tensor) in tensors {
        checksum.tensor(name, &tensor.data());
    }
    Ok(())
}
