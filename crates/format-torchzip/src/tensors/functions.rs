//! The results of PyTorch's rebuild functions, by their arguments.

use crate::pickle::globals::Known;
use crate::pickle::{Id, Node};

use super::objects::{Described, Objects};
use super::rebuild::{Dense, Quantizer, TensorKind};

/// # Rebuild functions
impl Objects<'_> {
    /// The results of the other rebuild functions.
    pub(super) fn rebuilt(&self, known: Known, list: &[Id]) -> Described<Option<TensorKind>> {
        Ok(Some(match known {
            Known::RebuildQuantized => self.quantized(list)?,
            Known::RebuildSparse => self.sparse(list)?,
            Known::RebuildNested => {
                let args = self.args("_rebuild_nested_tensor", "four tensors", list, 4)?;
                let names = ["values", "sizes", "strides", "storage_offsets"];
                TensorKind::Parts(names.into_iter().zip(args.iter().copied()).collect())
            }
            Known::RebuildMeta => {
                let args =
                    self.args("_rebuild_meta_tensor_no_storage", "four arguments", list, 4)?;
                TensorKind::Dense(self.without_bytes([args[0], args[1], args[2], args[3]])?)
            }
            Known::RebuildWrapper => {
                let args = self.args("_rebuild_wrapper_subclass", "eight arguments", list, 8)?;
                TensorKind::Wrapper(self.without_bytes([args[1], args[2], args[3], args[7]])?)
            }
            _ => return Ok(None),
        }))
    }

    fn without_bytes(&self, [dtype, shape, strides, grad]: [Id; 4]) -> Described<Dense> {
        Ok(Dense {
            storage: None,
            dtype: Some(self.dtype(dtype)?),
            offset: 0,
            shape: self.sizes("a shape", shape)?,
            strides: Some(self.sizes("strides", strides)?),
            requires_grad: self.flag(grad),
            conjugated: false,
            negated: false,
        })
    }

    pub(super) fn dense(&self, known: Known, list: &[Id]) -> Described<Dense> {
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
            storage: Some(args[0]),
            dtype,
            offset: self.count("a storage offset", args[1])?,
            shape: self.sizes("a shape", args[2])?,
            strides: Some(self.sizes("strides", args[3])?),
            requires_grad: list.get(4).is_some_and(|&grad| self.flag(grad)),
            conjugated,
            negated,
        })
    }

    fn quantized(&self, list: &[Id]) -> Described<TensorKind> {
        let function = "_rebuild_qtensor";
        let args = self.args(function, "at least five arguments", list, 5)?;
        let dense = Dense {
            storage: Some(args[0]),
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
        Ok(TensorKind::Quantized(dense, quantizer))
    }

    fn sparse(&self, list: &[Id]) -> Described<TensorKind> {
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
        Ok(TensorKind::Parts(
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
