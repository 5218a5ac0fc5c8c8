//! The closed list of classes and functions whose meaning is known.
//!
//! None is ever called: each only determines how its arguments are read.

mod numpy;
mod standard;
mod torch;

use std::fmt;

use tensorlift_tensor_meta::Dtype;

/// What a global means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not on the list.
    Unknown,
    /// Plain data of Python's standard library: harmless, kept as it is.
    Plain,
    Dict,
    OrderedDict,
    DefaultDict,
    Counter,
    List,
    Tuple,
    Set,
    Bytearray,
    Complex,
    /// `decimal.Decimal`, `pathlib.Path`, `uuid` and others that are represented as text.
    TextLike,
    Deque,
    Encode,
    Reconstructor,
    /// Annotates its first argument, as TorchScript does with lists and dicts.
    Annotate,
    NewObj,
    NewObjEx,
    Storage(StorageType),
    Dtype(TorchDtype),
    /// `torch.Tensor` and the older classes by dtype, made empty and filled by BUILD.
    Tensor,
    Parameter,
    Size,
    Device,
    GetLayout,
    /// `torch.strided`, `torch.per_tensor_affine` and other names that are values.
    TorchName,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    RebuildParameterWithState,
    RebuildFromType,
    RebuildFromTypeV2,
    RebuildQuantized,
    RebuildSparse,
    RebuildNested,
    RebuildMeta,
    RebuildWrapper,
    RebuildFromCpu,
    RebuildFromNumpy,
    LoadFromBytes,
    NumpyReconstruct,
    NumpyArrayClass,
    NumpyFrombuffer,
    NumpyScalar,
    NumpyDtype,
    /// A scalar type of NumPy or ml_dtypes, as an argument of `numpy.dtype`.
    NumpyType(Dtype),
}

/// What a class of storages holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageType {
    Typed(Dtype),
    /// Bytes; the tensor says what they are.
    Untyped,
}

/// A dtype of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TorchDtype {
    /// The same here and in PyTorch.
    Same(Dtype),
    /// `float4_e2m1fn_x2`: one element of PyTorch is two here.
    F4Pair,
}

impl Known {
    /// The meaning of `module.name`.
    pub(crate) fn of(module: &str, name: &str) -> Known {
        let package = module.split('.').next().unwrap_or(module);
        match package {
            "torch" => torch::meaning(module, name),
            "numpy" | "ml_dtypes" => numpy::meaning(module, name),
            _ => standard::meaning(module, name),
        }
    }
}

impl Known {
    /// Whether objects of this class can get items after they are made.
    ///
    /// Unknown classes can be subclasses of lists and dicts.
    pub(crate) const fn takes_items(self) -> bool {
        matches!(
            self,
            Known::Unknown
                | Known::Deque
                | Known::Dict
                | Known::OrderedDict
                | Known::DefaultDict
                | Known::Counter
                | Known::List
                | Known::Set
        )
    }
}

impl TorchDtype {
    /// The bytes of one element, as PyTorch counts them.
    pub(crate) const fn element_bytes(self) -> u64 {
        match self {
            TorchDtype::Same(dtype) => match dtype.byte_len() {
                Some(bytes) => bytes as u64,
                None => 1,
            },
            TorchDtype::F4Pair => 1,
        }
    }
}

impl fmt::Display for TorchDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TorchDtype::Same(dtype) => dtype.fmt(f),
            TorchDtype::F4Pair => f.pad("F4 in pairs"),
        }
    }
}

impl fmt::Display for StorageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageType::Typed(dtype) => write!(f, "storage of {dtype}"),
            StorageType::Untyped => f.pad("storage of bytes"),
        }
    }
}

impl StorageType {
    pub(crate) const fn element_bytes(self) -> u64 {
        match self {
            StorageType::Typed(dtype) => TorchDtype::Same(dtype).element_bytes(),
            StorageType::Untyped => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_names_mean_the_same() {
        let same = [
            ("torch", "FloatStorage", "torch.cuda", "FloatStorage"),
            (
                "torch",
                "UntypedStorage",
                "torch.storage",
                "_UntypedStorage",
            ),
            (
                "torch._tensor",
                "_rebuild_from_type_v2",
                "torch.tensor",
                "_rebuild_from_type_v2",
            ),
            (
                "numpy.core.multiarray",
                "scalar",
                "numpy._core.multiarray",
                "scalar",
            ),
            ("__builtin__", "set", "builtins", "frozenset"),
            ("torch", "float", "torch", "float32"),
        ];
        for (module, name, other_module, other_name) in same {
            let known = Known::of(module, name);
            assert_eq!(known, Known::of(other_module, other_name));
            assert_ne!(known, Known::Unknown, "{module}.{name}");
        }
    }

    #[test]
    fn what_runs_code_is_unknown() {
        for (module, name) in [
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("os", "system"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("numpy", "load"),
            ("my.torch", "FloatStorage"),
        ] {
            assert_eq!(Known::of(module, name), Known::Unknown, "{module}.{name}");
        }
    }
}
