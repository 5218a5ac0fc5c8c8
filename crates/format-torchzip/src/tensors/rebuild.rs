//! What PyTorch's rebuild functions would make: descriptions of tensors, read off their
//! arguments.

use smallvec::SmallVec;
use tensorlift_tensor_meta::Dtype;

use crate::error::TensorProblem;
use crate::pickle::globals::{Known, StorageType, TorchDtype};
use crate::pickle::{Arena, Id, Node};
use crate::tensors::numpy::{self, Array};

/// Tensors within tensors that are followed before the file is taken for a trap.
const MAX_WRAPPERS: usize = 32;

pub(crate) type Described<T> = Result<T, TensorProblem>;

/// A size or a stride for each dimension; of one or two without an allocation, as nearly all are.
pub(crate) type Sizes = SmallVec<[usize; 2]>;

/// The objects of one pickle, and the bytes their texts lie in.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) pickle: &'a [u8],
}

/// A tensor object, with what its wrappers add.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) form: Form,
    pub(crate) requires_grad: Option<bool>,
    /// Attributes that a subclass or parameter carries.
    pub(crate) states: Vec<Id>,
}

/// How a tensor is kept.
#[derive(Debug)]
pub(crate) enum Form {
    Dense(Dense),
    /// A dense tensor of integers with its scale.
    Quantized(Dense, Quantizer),
    /// Several tensors by name.
    Parts(Vec<(&'static str, Id)>),
    Array(Array),
    /// What the file keeps outside of the pickle under this persistent id.
    Outside(Id),
    /// A wrapper without bytes of its own.
    Wrapper(Dense),
}

/// A strided view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) storage: StorageRef,
    /// Taken from the storage's type where the call does not say.
    pub(crate) dtype: Option<TorchDtype>,
    /// In elements.
    pub(crate) offset: u64,
    pub(crate) shape: Sizes,
    pub(crate) strides: Option<Sizes>,
    pub(crate) requires_grad: bool,
    pub(crate) conjugated: bool,
    pub(crate) negated: bool,
}

/// Where a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageRef {
    /// In the storage that this object stands for.
    Object(Id),
    /// Nowhere: a meta tensor.
    Absent,
}

/// The scale of a quantized tensor.
#[derive(Debug)]
pub(crate) enum Quantizer {
    PerTensor { scale: f64, zero_point: i64 },
    PerChannel { scales: Id, zero_points: Id },
}

/// The storage that a persistent id names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorageId<'a> {
    pub(crate) kind: StorageType,
    pub(crate) key: &'a [u8],
    /// In elements of `kind`; bytes for untyped storages.
    pub(crate) elements: u64,
    /// A part of the storage that counts as one of its own: key, offset and length in elements.
    pub(crate) view: Option<(u64, u64)>,
}

impl<'a> Objects<'a> {
    /// The tensor that an object stands for, if it is one as nearly all are: a view of a storage
    /// that no class wraps and nobody added an attribute to.
    pub(crate) fn plain_tensor(&self, id: Id) -> Described<Option<Dense>> {
        match self.arena.as_object(id) {
            Some((object, known @ Known::RebuildTensorV2)) if object.state.is_none() => {
                let list = self.arena.tuple_items(object.args).unwrap_or(&[]);
                self.dense(known, list).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The tensor that an object stands for, or `None` for objects of other kinds.
    pub(crate) fn tensor(&self, id: Id) -> Described<Option<Tensor>> {
        let mut requires_grad = None;
        let mut states = Vec::new();
        let Some((object, known)) = self.arena.as_object(id) else {
            return Ok(None);
        };
        let (mut known, mut args, mut built) = (known, object.args, object.state);
        for _ in 0..MAX_WRAPPERS {
            let list = self.arena.tuple_items(args).unwrap_or(&[]);
            let inner = match known {
                Known::RebuildParameter | Known::RebuildParameterWithState => {
                    let args = self.args("_rebuild_parameter", "a tensor", list, 1)?;
                    let grad = list.get(1).and_then(|&grad| self.arena.as_bool(grad));
                    requires_grad = requires_grad.or(grad);
                    if known == Known::RebuildParameterWithState {
                        states.extend(list.get(3));
                    }
                    states.extend(built);
                    args[0]
                }
                Known::RebuildFromTypeV2 | Known::RebuildFromType => {
                    let &[function, _class, inner, ref rest @ ..] = list else {
                        return Err(self.argument("_rebuild_from_type", "a function", list));
                    };
                    states.extend(rest.first());
                    states.extend(built);
                    (known, args, built) = (self.arena.known(function), inner, None);
                    continue;
                }
                Known::Parameter | Known::Tensor => match self.old_state(list, built)? {
                    OldState::Dense(dense) => {
                        return Ok(Some(Tensor {
                            form: Form::Dense(dense),
                            requires_grad,
                            states,
                        }));
                    }
                    OldState::Wraps(inner, grad) => {
                        requires_grad = requires_grad.or(grad);
                        inner
                    }
                    OldState::None => return Ok(None),
                },
                Known::RebuildFromCpu => {
                    let args = self.args("_rebuild_device_tensor", "a tensor", list, 1)?;
                    requires_grad = list.get(3).and_then(|&grad| self.arena.as_bool(grad));
                    args[0]
                }
                Known::RebuildFromNumpy => {
                    let args = self.args("_rebuild_device_tensor", "an array", list, 1)?;
                    requires_grad = list.get(3).and_then(|&grad| self.arena.as_bool(grad));
                    args[0]
                }
                _ => {
                    let form = self.form(known, list, built)?;
                    if form.is_some() {
                        // The state of an array is the array itself.
                        if !matches!(form, Some(Form::Array(_))) {
                            states.extend(built);
                        }
                    }
                    return Ok(form.map(|form| Tensor {
                        form,
                        requires_grad,
                        states,
                    }));
                }
            };
            match self.arena.as_object(inner) {
                Some((object, inner_known)) => {
                    (known, args, built) = (inner_known, object.args, object.state);
                }
                None if matches!(self.arena.node(inner), Node::Persistent(_)) => {
                    let form = Form::Outside(inner);
                    return Ok(Some(Tensor {
                        form,
                        requires_grad,
                        states,
                    }));
                }
                None => {
                    let found = self.arena.type_name(inner);
                    return Err(TensorProblem::Argument {
                        function: "a parameter",
                        expected: "a tensor",
                        found,
                    });
                }
            }
        }
        let text = format!("it wraps tensors more than {MAX_WRAPPERS} deep");
        Err(TensorProblem::Unsupported(text))
    }

    fn form(&self, known: Known, list: &[Id], state: Option<Id>) -> Described<Option<Form>> {
        Ok(Some(match known {
            Known::RebuildTensor | Known::RebuildTensorV2 | Known::RebuildTensorV3 => {
                Form::Dense(self.dense(known, list)?)
            }
            Known::RebuildQuantized => self.quantized(list)?,
            Known::RebuildSparse => self.sparse(list)?,
            Known::RebuildNested => {
                let args = self.args("_rebuild_nested_tensor", "four tensors", list, 4)?;
                let names = ["values", "sizes", "strides", "storage_offsets"];
                Form::Parts(names.into_iter().zip(args.iter().copied()).collect())
            }
            Known::RebuildMeta => {
                let args =
                    self.args("_rebuild_meta_tensor_no_storage", "four arguments", list, 4)?;
                Form::Dense(Dense {
                    storage: StorageRef::Absent,
                    dtype: Some(self.dtype(args[0])?),
                    offset: 0,
                    shape: self.sizes("a shape", args[1])?,
                    strides: Some(self.sizes("strides", args[2])?),
                    requires_grad: self.flag(args[3]),
                    conjugated: false,
                    negated: false,
                })
            }
            Known::RebuildWrapper => {
                let args = self.args("_rebuild_wrapper_subclass", "eight arguments", list, 8)?;
                Form::Wrapper(Dense {
                    storage: StorageRef::Absent,
                    dtype: Some(self.dtype(args[1])?),
                    offset: 0,
                    shape: self.sizes("a shape", args[2])?,
                    strides: Some(self.sizes("strides", args[3])?),
                    requires_grad: self.flag(args[7]),
                    conjugated: false,
                    negated: false,
                })
            }
            Known::NumpyReconstruct | Known::NumpyFrombuffer | Known::NumpyArrayClass => {
                match numpy::array(self, known, list, state)? {
                    Some(array) => Form::Array(array),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        }))
    }

    fn dense(&self, known: Known, list: &[Id]) -> Described<Dense> {
        let function = match known {
            Known::RebuildTensor => "_rebuild_tensor",
            Known::RebuildTensorV2 => "_rebuild_tensor_v2",
            _ => "_rebuild_tensor_v3",
        };
        let args = self.args(function, "at least four arguments", list, 4)?;
        let (dtype, metadata) = match known {
            Known::RebuildTensorV3 => {
                let dtype = *list
                    .get(6)
                    .ok_or_else(|| self.argument(function, "a dtype", list))?;
                (Some(self.dtype(dtype)?), list.get(7))
            }
            _ => (None, list.get(6)),
        };
        let (conjugated, negated) = self.lazy_bits(metadata.copied());
        Ok(Dense {
            storage: StorageRef::Object(args[0]),
            dtype,
            offset: self.count("a storage offset", args[1])?,
            shape: self.sizes("a shape", args[2])?,
            strides: Some(self.sizes("strides", args[3])?),
            requires_grad: list.get(4).is_some_and(|&grad| self.flag(grad)),
            conjugated,
            negated,
        })
    }

    fn quantized(&self, list: &[Id]) -> Described<Form> {
        let function = "_rebuild_qtensor";
        let args = self.args(function, "at least five arguments", list, 5)?;
        let dense = Dense {
            storage: StorageRef::Object(args[0]),
            dtype: None,
            offset: self.count("a storage offset", args[1])?,
            shape: self.sizes("a shape", args[2])?,
            strides: Some(self.sizes("strides", args[3])?),
            requires_grad: list.get(5).is_some_and(|&grad| self.flag(grad)),
            conjugated: false,
            negated: false,
        };
        let quantizer = match self.arena.tuple_items(args[4]) {
            Some(&[_scheme, scale, zero_point]) => {
                let scale = match self.arena.node(scale) {
                    Node::Float(scale) => scale,
                    Node::Int(scale) => scale as f64,
                    _ => return Err(self.argument(function, "a scale", &[scale])),
                };
                let zero_point = self
                    .arena
                    .as_int(zero_point)
                    .ok_or_else(|| self.argument(function, "a zero point", &[zero_point]))?;
                Quantizer::PerTensor { scale, zero_point }
            }
            Some(&[_scheme, scales, zero_points, _axis]) => Quantizer::PerChannel {
                scales,
                zero_points,
            },
            _ => return Err(self.argument(function, "a quantizer", &[args[4]])),
        };
        Ok(Form::Quantized(dense, quantizer))
    }

    fn sparse(&self, list: &[Id]) -> Described<Form> {
        let function = "_rebuild_sparse_tensor";
        let args = self.args(function, "a layout and a tuple", list, 2)?;
        let parts = self
            .arena
            .tuple_items(args[1])
            .ok_or_else(|| self.argument(function, "a tuple", &args[1..]))?;
        let layout = self.layout_name(args[0]);
        let names: &[&'static str] = match layout.as_deref() {
            Some("sparse_coo") => &["indices", "values"],
            Some("sparse_csr" | "sparse_bsr") => &["crow_indices", "col_indices", "values"],
            Some("sparse_csc" | "sparse_bsc") => &["ccol_indices", "row_indices", "values"],
            _ => return Err(self.argument(function, "a sparse layout", &args[..1])),
        };
        // The size follows the parts.
        if parts.len() <= names.len() {
            return Err(self.argument(function, "the parts of a sparse tensor", &args[1..]));
        }
        Ok(Form::Parts(
            names.iter().copied().zip(parts.iter().copied()).collect(),
        ))
    }

    /// The name of a layout without its `torch.`.
    pub(crate) fn layout_name(&self, id: Id) -> Option<String> {
        let name = match self.arena.as_object(id) {
            Some((object, Known::GetLayout)) => {
                let name = *self.arena.tuple_items(object.args)?.first()?;
                String::from_utf8(self.arena.string_bytes(self.pickle, name)?.to_vec()).ok()?
            }
            _ => self.arena.as_global(id)?.name.to_string(),
        };
        Some(name.strip_prefix("torch.").unwrap_or(&name).to_owned())
    }

    /// A tensor or parameter as the versions before 0.4 pickled it: made empty, then filled.
    fn old_state(&self, list: &[Id], state: Option<Id>) -> Described<OldState> {
        let Some(items) = state.and_then(|state| self.arena.tuple_items(state)) else {
            // A parameter made by its constructor.
            return Ok(match list.first() {
                Some(&data) if self.arena.as_object(data).is_some() => {
                    let grad = list.get(1).and_then(|&grad| self.arena.as_bool(grad));
                    OldState::Wraps(data, grad)
                }
                _ => OldState::None,
            });
        };
        Ok(match *items {
            [storage, offset, sizes, strides] => OldState::Dense(Dense {
                storage: StorageRef::Object(storage),
                dtype: None,
                offset: self.count("a storage offset", offset)?,
                shape: self.sizes("a shape", sizes)?,
                strides: Some(self.sizes("strides", strides)?),
                requires_grad: false,
                conjugated: false,
                negated: false,
            }),
            [data, _, _, grad, _] => OldState::Wraps(data, self.arena.as_bool(grad)),
            _ => OldState::None,
        })
    }

    fn lazy_bits(&self, metadata: Option<Id>) -> (bool, bool) {
        let pairs = metadata.and_then(|metadata| self.arena.pairs(metadata));
        let mut bits = (false, false);
        for pair in pairs.unwrap_or(&[]).chunks_exact(2) {
            match self.arena.string_bytes(self.pickle, pair[0]) {
                Some(b"conj") => bits.0 = self.flag(pair[1]),
                Some(b"neg") => bits.1 = self.flag(pair[1]),
                _ => {}
            }
        }
        bits
    }
}

enum OldState {
    Dense(Dense),
    Wraps(Id, Option<bool>),
    None,
}

/// The dtype of a tensor over a storage of this kind.
pub(crate) const fn storage_dtype(kind: StorageType) -> TorchDtype {
    match kind {
        StorageType::Typed(dtype) => TorchDtype::Same(dtype),
        StorageType::Untyped => TorchDtype::Same(Dtype::U8),
    }
}
