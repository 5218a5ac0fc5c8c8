//! The closed list of classes and functions whose meaning is known.
//!
//! None is ever called: each only tells how its arguments are to be read.

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
    /// `decimal.Decimal`, `pathlib.Path`, `uuid` and others that are best told as a text.
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
    /// The same here and there.
    Same(Dtype),
    /// `float4_e2m1fn_x2`: one element there is two here.
    F4Pair,
}

impl Known {
    /// The meaning of `module.name`.
    pub(crate) fn of(module: &str, name: &str) -> Known {
        let package = module.split('.').next().unwrap_or(module);
        match package {
            "torch" => torch(module, name),
            "numpy" | "ml_dtypes" => numpy(module, name),
            _ => standard(module, name),
        }
    }
}

impl Known {
    /// Whether objects of this class can be given items after they are made.
    ///
    /// Unknown classes can be lists and dicts with a name of their own.
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
            TorchDtype::Same(dtype) => match dtype.bytes() {
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

fn standard(module: &str, name: &str) -> Known {
    match (module, name) {
        ("collections", "OrderedDict") => Known::OrderedDict,
        ("collections", "defaultdict") => Known::DefaultDict,
        ("collections", "Counter") => Known::Counter,
        ("collections", "deque") => Known::Deque,
        ("_codecs", "encode") => Known::Encode,
        ("copy_reg" | "copyreg", "_reconstructor") => Known::Reconstructor,
        ("copy_reg" | "copyreg", "__newobj__") => Known::NewObj,
        ("copy_reg" | "copyreg", "__newobj_ex__") => Known::NewObjEx,
        ("builtins" | "__builtin__", name) => match name {
            "dict" => Known::Dict,
            "list" => Known::List,
            "tuple" => Known::Tuple,
            "set" | "frozenset" => Known::Set,
            "bytearray" => Known::Bytearray,
            "complex" => Known::Complex,
            "slice" | "range" | "xrange" | "object" | "int" | "long" | "float" | "str"
            | "unicode" | "bytes" | "bool" | "Ellipsis" | "NotImplemented" => Known::Plain,
            _ => Known::Unknown,
        },
        ("decimal" | "_decimal" | "_pydecimal", "Decimal")
        | (
            "pathlib" | "pathlib._local",
            "Path" | "PosixPath" | "WindowsPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath",
        ) => Known::TextLike,
        ("datetime", "datetime" | "date" | "time" | "timedelta" | "timezone")
        | ("fractions", "Fraction")
        | ("uuid", "UUID")
        | ("argparse", "Namespace")
        | ("types", "SimpleNamespace") => Known::Plain,
        _ => Known::Unknown,
    }
}

fn torch(module: &str, name: &str) -> Known {
    if let Some(kind) = name.strip_suffix("Storage") {
        return storage(kind).map_or(Known::Unknown, Known::Storage);
    }
    match (module, name) {
        ("torch._utils", "_rebuild_tensor") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v2") => Known::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Known::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter") => Known::RebuildParameter,
        ("torch._utils", "_rebuild_parameter_with_state") => Known::RebuildParameterWithState,
        ("torch._utils", "_rebuild_qtensor") => Known::RebuildQuantized,
        ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
            Known::RebuildSparse
        }
        ("torch._utils", "_rebuild_nested_tensor") => Known::RebuildNested,
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => Known::RebuildMeta,
        ("torch._utils", "_rebuild_wrapper_subclass") => Known::RebuildWrapper,
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor") => Known::RebuildFromCpu,
        (
            "torch._utils",
            "_rebuild_device_tensor_from_numpy"
            | "_rebuild_xla_tensor"
            | "_rebuild_mlc_tensor"
            | "_rebuild_ort_tensor",
        ) => Known::RebuildFromNumpy,
        // The module was renamed between 1.8 and 1.9.
        ("torch._tensor" | "torch.tensor", "_rebuild_from_type") => Known::RebuildFromType,
        ("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2") => Known::RebuildFromTypeV2,
        ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("torch.autograd.variable", "Variable") => Known::Parameter,
        ("torch.serialization", "_get_layout") => Known::GetLayout,
        ("torch.storage", "_load_from_bytes") => Known::LoadFromBytes,
        (
            "torch.jit._pickle",
            "restore_type_tag" | "build_intlist" | "build_tensorlist" | "build_doublelist"
            | "build_boollist",
        ) => Known::Annotate,
        ("torch", "Size") => Known::Size,
        ("torch", "device") => Known::Device,
        ("torch" | "torch._tensor" | "torch.tensor" | "torch.cuda", name) => {
            match torch_dtype(name) {
                Some(dtype) if module == "torch" => Known::Dtype(dtype),
                _ if name == "Tensor" || is_tensor_class(name) => Known::Tensor,
                _ if module == "torch" && is_value_name(name) => Known::TorchName,
                _ => Known::Unknown,
            }
        }
        _ => Known::Unknown,
    }
}

fn is_tensor_class(name: &str) -> bool {
    name.strip_suffix("Tensor")
        .is_some_and(|kind| matches!(storage(kind), Some(StorageType::Typed(_))))
}

fn is_value_name(name: &str) -> bool {
    matches!(
        name,
        "strided"
            | "sparse_coo"
            | "sparse_csr"
            | "sparse_csc"
            | "sparse_bsr"
            | "sparse_bsc"
            | "jagged"
            | "_mkldnn"
            | "contiguous_format"
            | "preserve_format"
            | "channels_last"
            | "channels_last_3d"
            | "per_tensor_affine"
            | "per_tensor_symmetric"
            | "per_channel_affine"
            | "per_channel_symmetric"
            | "per_channel_affine_float_qparams"
    )
}

fn storage(kind: &str) -> Option<StorageType> {
    Some(StorageType::Typed(match kind {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::Bool,
        "ComplexDouble" => Dtype::C128,
        "ComplexFloat" => Dtype::C64,
        "ComplexHalf" => Dtype::C32,
        "QInt8" => Dtype::QInt8,
        "QUInt8" => Dtype::QUInt8,
        "QInt32" => Dtype::QInt32,
        "QUInt4x2" => Dtype::QUInt4x2,
        "QUInt2x4" => Dtype::QUInt2x4,
        "Untyped" | "_Untyped" => return Some(StorageType::Untyped),
        _ => return None,
    }))
}

/// The dtype that PyTorch names so, aliases included.
pub(crate) fn torch_dtype(name: &str) -> Option<TorchDtype> {
    Some(TorchDtype::Same(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "float4_e2m1fn_x2" => return Some(TorchDtype::F4Pair),
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::Bool,
        "complex32" | "chalf" => Dtype::C32,
        "bcomplex32" => Dtype::BC32,
        "complex64" | "cfloat" => Dtype::C64,
        "complex128" | "cdouble" => Dtype::C128,
        "qint8" => Dtype::QInt8,
        "quint8" => Dtype::QUInt8,
        "qint32" => Dtype::QInt32,
        "quint4x2" => Dtype::QUInt4x2,
        "quint2x4" => Dtype::QUInt2x4,
        // Types without arithmetic: a byte or two of bits each.
        "bits8" | "bits1x8" | "bits2x4" | "bits4x2" => Dtype::U8,
        "bits16" => Dtype::U16,
        "uint1" | "uint2" | "uint3" | "uint4" | "uint5" | "uint6" | "uint7" => Dtype::U8,
        "int1" | "int2" | "int3" | "int4" | "int5" | "int6" | "int7" => Dtype::I8,
        _ => return None,
    }))
}

fn numpy(module: &str, name: &str) -> Known {
    match (module, name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            Known::NumpyReconstruct
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Known::NumpyScalar,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Known::NumpyFrombuffer,
        ("numpy", "ndarray") => Known::NumpyArrayClass,
        ("numpy", "dtype") => Known::NumpyDtype,
        ("numpy" | "ml_dtypes" | "ml_dtypes._ml_dtypes_ext", name) => {
            // NumPy pickles the class of a dtype by name, e.g. `numpy.dtypes.Float32DType`.
            numpy_type(name).map_or(Known::Unknown, Known::NumpyType)
        }
        ("numpy.dtypes", name) => name
            .strip_suffix("DType")
            .and_then(|name| numpy_type(&name.to_ascii_lowercase()))
            .map_or(Known::Unknown, Known::NumpyType),
        _ => Known::Unknown,
    }
}

fn numpy_type(name: &str) -> Option<Dtype> {
    Some(match name {
        "bool" | "bool_" | "bool8" => Dtype::Bool,
        "int8" | "byte" => Dtype::I8,
        "uint8" | "ubyte" => Dtype::U8,
        "int16" | "short" => Dtype::I16,
        "uint16" | "ushort" => Dtype::U16,
        "int32" | "intc" => Dtype::I32,
        "uint32" | "uintc" => Dtype::U32,
        "int64" | "longlong" => Dtype::I64,
        "uint64" | "ulonglong" => Dtype::U64,
        "float16" | "half" => Dtype::F16,
        "float32" | "single" => Dtype::F32,
        "float64" | "double" | "float_" => Dtype::F64,
        "complex64" | "csingle" => Dtype::C64,
        "complex128" | "cdouble" | "complex_" => Dtype::C128,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        _ => return None,
    })
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
