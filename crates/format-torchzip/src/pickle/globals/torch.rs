//! PyTorch.

use tensorlift_tensor_meta::Dtype;

use super::{Known, StorageType, TorchDtype};

/// The meaning of a name of PyTorch.
pub(super) fn meaning(module: &str, name: &str) -> Known {
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
fn torch_dtype(name: &str) -> Option<TorchDtype> {
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
