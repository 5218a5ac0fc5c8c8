//! Loads a checkpoint into burn: its tensors look at the memory that was loaded, without a copy.
//!
//! `cargo run --manifest-path examples/burn/Cargo.toml -- fixtures/tiny-model`

use std::error::Error;

use burn_tensor::{AllocationProperty, DType, Device, Float, Shape, Tensor, TensorData};
use tensorlift::{Checkpoint, Dtype};

/// The bytes of a loaded tensor, which burn keeps as long as it uses them.
struct Owner(tensorlift::Tensor);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        // `data` asks contiguous tensors in host memory alone.
        self.0.as_bytes().unwrap_or_default()
    }
}

/// A loaded tensor as burn's, unless burn lacks its dtype.
fn data(tensor: &tensorlift::Tensor) -> Result<Option<TensorData>, Box<dyn Error>> {
    let dtype = match tensor.dtype() {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        _ => return Ok(None),
    };
    let owner = Owner(tensor.to_contiguous()?);
    let bytes = bytes::Bytes::from_owner(owner);
    let bytes = burn_tensor::Bytes::from_shared(bytes, AllocationProperty::Native);
    let shape = Shape::from(tensor.shape().to_vec());
    Ok(Some(TensorData::try_from_bytes(bytes, shape, dtype)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args_os().nth(1).ok_or("usage: PATH")?;
    let checkpoint = Checkpoint::open(target)?;
    let loaded = checkpoint.loader().load()?;
    let device = Device::flex();
    for tensor in &loaded {
        let Some(data) = data(tensor)? else {
            println!("{}: burn has no {}", tensor.name(), tensor.dtype());
            continue;
        };
        if tensor.dtype() == Dtype::F32 && tensor.shape().len() == 2 {
            let weights = Tensor::<2, Float>::from_data(data, &device);
            let sum: f32 = weights.sum().into_scalar();
            println!("{} {:?}: sum {sum}", tensor.name(), tensor.shape());
        }
    }
    println!("{}", loaded.report());
    Ok(())
}
