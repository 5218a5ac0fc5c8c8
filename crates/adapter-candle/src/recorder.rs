use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error as CandleError, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use tensorlift::skeleton::Skeleton;

use crate::memory;

/// The skeleton of a model: name, shape and dtype of every tensor that `build` asks its builder
/// for.
///
/// The tensors that it gets are one zero each, broadcast to their shape, so that recording a model
/// takes almost no memory. Optional tensors, which a model looks for by
/// [`VarBuilder::contains_tensor`], are absent.
///
/// ```
/// use candle_core::DType;
///
/// let skeleton = tensorlift_candle::skeleton_of(DType::F32, |weights| {
///     candle_nn::linear(384, 1152, weights.pp("attention.qkv"))
/// })?;
/// assert_eq!(skeleton.get("attention.qkv.weight").unwrap().shape, [1152, 384]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Those of `build`, and if it asks for a tensor without a shape, for one tensor in two shapes, or
/// for a dtype that tensorlift does not have.
pub fn skeleton_of<M>(
    dtype: DType,
    build: impl FnOnce(VarBuilder<'static>) -> CandleResult<M>,
) -> CandleResult<Skeleton> {
    let recorder = Recorder::default();
    let backend = Box::new(recorder.clone());
    build(VarBuilder::from_backend(backend, dtype, Device::Cpu))?;
    Ok(recorder.skeleton().clone())
}

#[derive(Clone, Default)]
struct Recorder {
    skeleton: Arc<Mutex<Skeleton>>,
}

impl Recorder {
    fn skeleton(&self) -> MutexGuard<'_, Skeleton> {
        self.skeleton.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        let mut skeleton = self.skeleton();
        match skeleton.get(name) {
            // Asked for again, as tied weights are.
            Some(known) if known.shape == shape.dims() => {}
            Some(known) => {
                return Err(CandleError::UnexpectedShape {
                    msg: format!("{name} was asked for in another shape before"),
                    expected: Shape::from(&known.shape[..]),
                    got: shape,
                }
                .bt());
            }
            None => {
                let parameter = memory::of_tensorlift(dtype)
                    .ok_or_else(|| CandleError::msg(format!("{name}: no dtype {dtype:?}")))?;
                let added = skeleton.add(name, shape.dims(), Some(parameter));
                added.map_err(CandleError::wrap)?;
            }
        }
        memory::zeros(shape.dims(), dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        Err(CandleError::msg(format!(
            "{name} is asked for without a shape, and a skeleton needs one"
        )))
    }

    fn contains_tensor(&self, _name: &str) -> bool {
        false
    }
}
