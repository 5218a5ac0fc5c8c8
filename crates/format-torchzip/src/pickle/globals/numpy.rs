//! NumPy and ml_dtypes.

use tensorlift_tensor_meta::Dtype;

use super::Known;

/// The meaning of a name of NumPy or ml_dtypes.
pub(super) fn meaning(module: &str, name: &str) -> Known {
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
