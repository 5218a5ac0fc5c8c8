//! Loads model checkpoints into candle: every tensor is loaded when the builder is returned.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::Cpu;
//! let weights = tensorlift_candle::var_builder("models/minilm", DType::F32, &device)?;
//! let embeddings = candle_nn::embedding(30522, 384, weights.pp("embeddings.word_embeddings"))?;
//! # Ok(())
//! # }
//! ```
//!
//! The path is a safetensors or PyTorch file, a folder, an index file or the name of a model in
//! the Hugging Face cache.
//!
//! On the CPU, bytes are read into memory that candle owns: there is one allocation for each file
//! and dtype, and a tensor is a view of it.
//! So a living tensor keeps the other tensors of its allocation in memory.
//!
//! [`skeleton_of`] records what a model requests, without memory: to compare it with a checkpoint,
//! or to [fill](Weights::fill) it by rules.
//! [`Weights`] gives more control: it lists the names that a model requested, left unused or
//! missed, and [loads the shares](Weights::load_shares) that a model of one rank requests.
//!
//! Not supported: dtypes that candle lacks.

mod backend;
#[cfg(feature = "cuda")]
mod cuda;
mod memory;
mod recorder;
mod weights;

use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

pub use recorder::skeleton_of;
pub use weights::{ShardedVarBuilder, Weights};

/// Loads every tensor of a checkpoint in a dtype, for models that are built with a [`VarBuilder`].
///
/// # Errors
/// As [`Weights::load_as`].
pub fn var_builder(
    target: impl AsRef<Path>,
    dtype: DType,
    device: &Device,
) -> Result<VarBuilder<'static>, tensorlift::Error> {
    Ok(Weights::load_as(target, dtype, device)?.var_builder(dtype, device))
}
