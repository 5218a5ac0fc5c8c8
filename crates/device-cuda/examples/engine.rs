//! How an engine on cudarc takes the weights of a layer out of one plan: a matrix, the rows of
//! queries, keys and values as one matrix, the columns of one rank, and a vector.
//!
//! `cargo run -p tensorlift-device-cuda --example engine -- fixtures/tiny-model/model.safetensors`
//!
//! It needs a GPU; a test runs it over the double of the driver.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use tensorlift_device::Device;
use tensorlift_device_cuda::cudarc::driver::CudaContext;
use tensorlift_device_cuda::{CudaBuffer, CudaDevice, SharedSlice};
use tensorlift_format_safetensors as safetensors;
use tensorlift_loader::{Assembly, Control, LoadOptions, Place, Shard, execute, plan};
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Limits, Slice};

/// The columns of this rank, of two.
const COLUMNS: Slice = Slice::rank(1, 1, 2);
/// What the names of the layer begin with.
const LAYER: &str = "encoder.layer.0.";
const QKV: [&str; 3] = [
    "attention.self.query.weight",
    "attention.self.key.weight",
    "attention.self.value.weight",
];
/// The engine's parameters, each with the tensors whose rows it joins.
const PARAMETERS: [(&str, &[&str]); 4] = [
    ("out", &["attention.output.dense.weight"]),
    ("qkv", &QKV),
    (BY_COLUMNS, &["output.dense.weight"]),
    ("norm", &["output.LayerNorm.weight"]),
];
/// The parameter of which each rank has some columns.
const BY_COLUMNS: &str = "down";

/// A parameter on the GPU; kernels of cudarc take it as any other slice.
struct Parameter {
    name: &'static str,
    weights: SharedSlice<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: engine FILE")?;
    // Named first: the driver starts while the header is read.
    let device = CudaDevice::new(0)?;
    let parameters = load(path.into(), device)?;
    let stream = CudaContext::new(0)?.new_stream()?;
    for Parameter { name, weights } in &parameters {
        let values = stream.clone_dtoh(&**weights)?;
        let products = (1..)
            .zip(&values)
            .map(|(i, &v)| f64::from(i) * f64::from(v));
        println!("{name} {} {:?}", values.len(), products.sum::<f64>());
    }
    Ok(())
}

/// Reads the bytes that this rank wants, each once, to where they stay.
fn load(path: PathBuf, device: CudaDevice) -> Result<Vec<Parameter>, Box<dyn Error>> {
    let storage = FileStorage::open(&path)?;
    let catalog = safetensors::read(&storage, &Limits::default())?;
    let is_divided =
        |name: &str| parameter_of(name).is_some_and(|it| PARAMETERS[it].0 == BY_COLUMNS);
    let catalog = catalog.sliced(|entry| is_divided(entry.name()).then_some(COLUMNS))?;

    // A group for each tensor that is wanted, and then one for each parameter.
    let options = LoadOptions::default();
    let rules = [device.rules().exact(true)];
    let device_of = |entry: &Entry| parameter_of(entry.name()).map(|_| 0);
    let plan = plan(&catalog, device_of, &rules, &options)?;
    let plan = plan.assembled(&assembly(&catalog)?);

    let shards = [Shard::new(path, Arc::new(storage))];
    let devices: [Arc<dyn Device>; 1] = [Arc::new(device)];
    let control = Control::default();
    let filled = execute(&plan, &catalog, &shards, &devices, &options, &control)?;
    let stream = CudaContext::new(0)?.new_stream()?;
    let parameter = |place: &Place| {
        let name = PARAMETERS[place.entry].0;
        let buffer = CudaBuffer::of(&*filled.groups[place.group]).ok_or("no group of CUDA's")?;
        let weights = buffer.slice(0..buffer.len(), &stream)?;
        Ok(Parameter { name, weights })
    };
    plan.places.iter().map(parameter).collect()
}

/// Where in which parameter each tensor goes: behind the rows of those before it.
fn assembly(catalog: &Catalog) -> Result<Assembly, Box<dyn Error>> {
    let mut assembly = Assembly::default();
    assembly.targets.resize(catalog.len(), (0, 0));
    for (parameter, (_, parts)) in PARAMETERS.iter().enumerate() {
        let mut len = 0;
        for part in *parts {
            let name = format!("{LAYER}{part}");
            let position = catalog.position(&name).ok_or(format!("no tensor {name}"))?;
            let entry = &catalog.entries()[position];
            if entry.dtype() != Dtype::F32 {
                return Err(format!("{name} is {}, no F32", entry.dtype()).into());
            }
            assembly.targets[position] = (parameter, len);
            len += entry.byte_len();
        }
        assembly.byte_lens.push(len);
    }
    Ok(assembly)
}

/// The parameter that a tensor is a part of.
fn parameter_of(name: &str) -> Option<usize> {
    let name = name.strip_prefix(LAYER)?;
    PARAMETERS
        .iter()
        .position(|(_, parts)| parts.contains(&name))
}
