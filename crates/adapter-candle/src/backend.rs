//! What candle asks of weights.

use candle_core::{DType, Device, Error as CandleError, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::{Backend, Shard, SimpleBackend};
use tensorlift::{Error, ErrorKind};

use crate::memory;
use crate::weights::{Weights, name_of};

impl Weights {
    /// The tensor of this name, recorded as requested.
    ///
    /// # Errors
    /// If it is not in the checkpoint, or has a dtype that candle does not have.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.record(name, Shard::default());
        self.find(name)
    }

    fn find(&self, name: &str) -> Result<&Tensor> {
        if let Some(tensor) = self.shared.tensors.get(name) {
            return Ok(tensor);
        }
        let Some(dtype) = self.shared.dtypes.get(name) else {
            let path = name.to_owned();
            return Err(CandleError::CannotFindTensor { path }.bt());
        };
        let error = match memory::of_candle(*dtype) {
            None => {
                let found = format!("candle has no dtype {dtype}");
                Error::new(ErrorKind::Unsupported, found)
                    .with_remedy("convert the checkpoint to a dtype that candle has")
            }
            Some(_) => Error::new(ErrorKind::NotFound, "the tensor was not loaded")
                .with_remedy("select it when loading, and build the same model twice for shares"),
        };
        Err(CandleError::wrap(error.with_tensor(name)))
    }

    /// The share of a rank: an even part of a dimension, as candle divides it.
    fn share(&self, name: &str, shard: Shard) -> Result<Tensor> {
        self.record(name, shard);
        if let Some(share) = self.shared.tensors.get(&name_of(name, shard)) {
            return Ok(share.clone());
        }
        let whole = self.find(name)?;
        let Shard {
            dim,
            rank,
            world_size,
        } = shard;
        let size = whole.dim(dim)?;
        if world_size == 0 || rank >= world_size || size % world_size != 0 {
            return Err(CandleError::ShapeMismatchSplit {
                shape: whole.shape().clone(),
                dim,
                n_parts: world_size,
            }
            .bt());
        }
        let len = size / world_size;
        let share = whole.narrow(dim, rank * len, len)?;
        match self.shared.is_recorder {
            true => Ok(share),
            // A copy, so that the whole allocation can be freed.
            false => share.force_contiguous(),
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.shared.dtypes.contains_key(name)
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
    ) -> Result<Tensor> {
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

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(name)?.to_device(device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

impl Backend for Weights {
    type Hints = Shard;

    /// As candle's own: the shape is checked where there is one rank.
    fn get(
        &self,
        shape: Shape,
        name: &str,
        shard: Shard,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match shard.world_size {
            1 => SimpleBackend::get(self, shape, name, Init::Const(0.), dtype, device),
            _ => self.share(name, shard)?.to_device(device)?.to_dtype(dtype),
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        SimpleBackend::get_unchecked(self, name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}
