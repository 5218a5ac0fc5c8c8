//! Descriptions of the tensors that PyTorch's rebuild functions would make, read from their
//! arguments.

use tensorlift_tensor_meta::Dtype;

use crate::pickle::globals::{Known, StorageType, TorchDtype};
use crate::pickle::{Id, Node, Object};
use crate::tensors::TensorProblem;

use super::numpy::{self, Array};
use super::objects::{Described, Objects, Sizes};

/// The most nested tensors that are followed.
const MAX_WRAPPERS: usize = 32;

/// A tensor object, with the additions of its wrappers.
#[derive(Debug)]
pub(crate) struct RebuiltTensor {
    pub(crate) kind: TensorKind,
    pub(crate) wrapping: Wrapping,
}

/// The additions of the wrappers of a tensor.
#[derive(Debug, Default)]
pub(crate) struct Wrapping {
    pub(crate) requires_grad: Option<bool>,
    /// The dtype that a wrapper converts its tensor to.
    pub(crate) dtype: Option<TorchDtype>,
    /// Attributes that a subclass or parameter carries.
    pub(crate) states: Vec<Id>,
}

/// The representation of a tensor.
#[derive(Debug)]
pub(crate) enum TensorKind {
    Dense(Dense),
    /// A dense tensor of integers with its scale.
    Quantized(Dense, Quantizer),
    /// Several tensors by name.
    Parts(Vec<(&'static str, Id)>),
    Array(Array),
    /// All of a storage, or what the tar layout keeps under this persistent id.
    Storage(Id),
    /// A wrapper without its own bytes.
    Wrapper(Dense),
}

/// A strided view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    /// The object that represents the storage; a meta tensor has none.
    pub(crate) storage: Option<Id>,
    /// Taken from the storage's type if the call does not give it.
    pub(crate) dtype: Option<TorchDtype>,
    /// In elements.
    pub(crate) offset: u64,
    pub(crate) shape: Sizes,
    pub(crate) strides: Option<Sizes>,
    pub(crate) requires_grad: bool,
    pub(crate) conjugated: bool,
    pub(crate) negated: bool,
}

/// The scale of a quantized tensor.
#[derive(Debug)]
pub(crate) enum Quantizer {
    PerTensor { scale: f64, zero_point: i64 },
    PerChannel { scales: Id, zero_points: Id },
}

/// A call, and the object it made.
struct Call<'a> {
    known: Known,
    args: &'a [Id],
    /// `None` where a wrapper has function and arguments apart.
    object: Option<&'a Object>,
}

/// One layer of a tensor object.
enum Layer<'a> {
    /// A wrapper around what this call makes.
    Call(Call<'a>),
    /// A wrapper around this object.
    Around(Id),
    Tensor(TensorKind),
    /// No tensor.
    Other,
}

/// # Tensors
impl<'a> Objects<'a> {
    /// The tensor that an object represents, in the common case: a view of a storage without a
    /// wrapper class or additional attributes.
    pub(crate) fn plain_tensor(&self, id: Id) -> Described<Option<Dense>> {
        match self.arena.as_object(id) {
            Some((object, known @ Known::RebuildTensorV2)) if object.state.is_none() => {
                let list = self.arena.tuple_items(object.args).unwrap_or(&[]);
                self.dense(known, list).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The tensor that an object represents, or `None` for objects of other kinds.
    pub(crate) fn tensor(&self, id: Id) -> Described<Option<RebuiltTensor>> {
        let Some(mut call) = self.call(id) else {
            return Ok(None);
        };
        let mut wrapping = Wrapping::default();
        for _ in 0..MAX_WRAPPERS {
            match self.layer(&call, &mut wrapping)? {
                Layer::Call(inner) => call = inner,
                Layer::Tensor(kind) => return Ok(Some(RebuiltTensor { kind, wrapping })),
                Layer::Other => return Ok(None),
                Layer::Around(inner) => match self.call(inner) {
                    Some(inner) => call = inner,
                    None if matches!(self.arena.node(inner), Node::Persistent(_)) => {
                        let kind = TensorKind::Storage(inner);
                        return Ok(Some(RebuiltTensor { kind, wrapping }));
                    }
                    None => return Err(self.argument("a parameter", "a tensor", &[inner])),
                },
            }
        }
        let text = format!("it wraps tensors more than {MAX_WRAPPERS} deep");
        Err(TensorProblem::Unsupported(text))
    }

    fn call(&self, id: Id) -> Option<Call<'a>> {
        let (object, known) = self.arena.as_object(id)?;
        Some(Call {
            known,
            args: self.arena.tuple_items(object.args).unwrap_or(&[]),
            object: Some(object),
        })
    }

    /// The states that BUILD set on the object of a call, in the order of the pickle.
    fn states(&self, call: &Call<'a>) -> impl DoubleEndedIterator<Item = Id> + use<'a> {
        let arena = self.arena;
        call.object
            .into_iter()
            .flat_map(|object| arena.states(object))
    }

    /// Looks through one layer of a tensor object.
    fn layer(&self, call: &Call<'a>, wrapping: &mut Wrapping) -> Described<Layer<'a>> {
        let args = call.args;
        Ok(match call.known {
            Known::RebuildParameter | Known::RebuildParameterWithState => {
                let inner = self.args("_rebuild_parameter", "a tensor", args, 1)?[0];
                let grad = args.get(1).and_then(|&grad| self.arena.as_bool(grad));
                wrapping.requires_grad = wrapping.requires_grad.or(grad);
                if call.known == Known::RebuildParameterWithState {
                    wrapping.states.extend(args.get(3));
                }
                wrapping.states.extend(self.states(call));
                Layer::Around(inner)
            }
            Known::RebuildFromTypeV2 | Known::RebuildFromType => {
                let &[function, _class, inner, ref rest @ ..] = args else {
                    return Err(self.argument("_rebuild_from_type", "a function", args));
                };
                wrapping.states.extend(rest.first());
                wrapping.states.extend(self.states(call));
                Layer::Call(Call {
                    known: self.arena.known(function),
                    args: self.arena.tuple_items(inner).unwrap_or(&[]),
                    object: None,
                })
            }
            Known::RebuildFromCpu | Known::RebuildFromNumpy => {
                let function = "_rebuild_device_tensor";
                let inner = self.args(function, "a tensor or an array", args, 1)?[0];
                if let Some(&dtype) = args.get(1) {
                    let dtype = self.dtype(dtype)?;
                    wrapping.dtype.get_or_insert(dtype);
                }
                wrapping.requires_grad = args.get(3).and_then(|&grad| self.arena.as_bool(grad));
                Layer::Around(inner)
            }
            Known::Parameter | Known::Tensor => self.old_tensor(call, wrapping)?,
            Known::RebuildTensor | Known::RebuildTensorV2 | Known::RebuildTensorV3 => {
                match self.built(call, wrapping)? {
                    Some(layer) => layer,
                    None => Layer::Tensor(TensorKind::Dense(self.dense(call.known, args)?)),
                }
            }
            Known::NumpyReconstruct | Known::NumpyFrombuffer | Known::NumpyArrayClass => {
                // The state of an array is the array itself.
                let state = self.states(call).next_back();
                match numpy::array(self, call.known, args, state)? {
                    Some(array) => Layer::Tensor(TensorKind::Array(array)),
                    None => Layer::Other,
                }
            }
            known => match self.rebuilt(known, args)? {
                Some(kind) => {
                    wrapping.states.extend(self.states(call));
                    Layer::Tensor(kind)
                }
                None => Layer::Other,
            },
        })
    }

    /// A tensor or parameter as the versions before 0.4 pickled it: made empty, then filled.
    fn old_tensor(&self, call: &Call<'a>, wrapping: &mut Wrapping) -> Described<Layer<'a>> {
        if let Some(layer) = self.built(call, wrapping)? {
            return Ok(layer);
        }
        // A parameter made by its constructor.
        Ok(match call.args.first() {
            Some(&data) if self.arena.as_object(data).is_some() => {
                let grad = call.args.get(1);
                let grad = grad.and_then(|&grad| self.arena.as_bool(grad));
                wrapping.requires_grad = wrapping.requires_grad.or(grad);
                Layer::Around(data)
            }
            _ => Layer::Other,
        })
    }

    /// The effect of BUILD on a tensor: a tuple of four refers to a storage, one of five to another
    /// tensor, and the last such tuple counts. Other states are attributes.
    fn built(&self, call: &Call<'a>, wrapping: &mut Wrapping) -> Described<Option<Layer<'a>>> {
        let mut layer = None;
        for state in self.states(call) {
            match self.arena.tuple_items(state) {
                Some(&[storage, offset, sizes, strides]) => {
                    layer = Some(Layer::Tensor(TensorKind::Dense(Dense {
                        storage: Some(storage),
                        dtype: None,
                        offset: self.count("a storage offset", offset)?,
                        shape: self.sizes("a shape", sizes)?,
                        strides: Some(self.sizes("strides", strides)?),
                        requires_grad: false,
                        conjugated: false,
                        negated: false,
                    })));
                }
                Some(&[data, _, _, grad, _]) => {
                    let grad = self.arena.as_bool(grad);
                    wrapping.requires_grad = wrapping.requires_grad.or(grad);
                    layer = Some(Layer::Around(data));
                }
                _ => wrapping.states.push(state),
            }
        }
        Ok(layer)
    }
}

/// The dtype of a tensor over a storage of this kind.
pub(crate) const fn storage_dtype(kind: StorageType) -> TorchDtype {
    match kind {
        StorageType::Typed(dtype) => TorchDtype::Same(dtype),
        StorageType::Untyped => TorchDtype::Same(Dtype::U8),
    }
}
