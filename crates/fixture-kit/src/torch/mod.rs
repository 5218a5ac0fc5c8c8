//! PyTorch files by recipe: the pickle of a state dict, in a zip archive or the legacy layout.

mod archive;
mod legacy;
mod state_dict;

pub use archive::{ByteOrderRecord, ZipOptions};
pub use legacy::{LegacyOptions, key_list as legacy_key_list, preamble as legacy_preamble};
pub use state_dict::{Container, TensorPickle};

pub(crate) use archive::{listing_order, write as write_zip};
pub(crate) use legacy::write as write_legacy;

use tensorlift_tensor_meta::{ByteOrder, Dtype};

/// The scale of every quantized tensor that recipes write.
pub(crate) const SCALE: f64 = 0.25;
/// The zero point of every quantized tensor that recipes write.
pub(crate) const ZERO_POINT: i64 = 3;

/// How PyTorch stores a dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In its own storage class, which counts elements.
    Typed(&'static str),
    /// In an untyped storage, which counts bytes; the rebuild function is told the dtype.
    Untyped(&'static str),
    /// In its own storage class, rebuilt with a scale and a zero point.
    Quantized(&'static str),
}

/// How PyTorch stores this dtype, or `None` where it does not know it or a recipe cannot say
/// where its rows end.
pub(crate) fn kind(dtype: Dtype) -> Option<Kind> {
    use Kind::{Quantized, Typed, Untyped};
    Some(match dtype {
        Dtype::Bool => Typed("BoolStorage"),
        Dtype::U8 => Typed("ByteStorage"),
        Dtype::I8 => Typed("CharStorage"),
        Dtype::I16 => Typed("ShortStorage"),
        Dtype::I32 => Typed("IntStorage"),
        Dtype::I64 => Typed("LongStorage"),
        Dtype::F16 => Typed("HalfStorage"),
        Dtype::BF16 => Typed("BFloat16Storage"),
        Dtype::F32 => Typed("FloatStorage"),
        Dtype::F64 => Typed("DoubleStorage"),
        Dtype::C64 => Typed("ComplexFloatStorage"),
        Dtype::C128 => Typed("ComplexDoubleStorage"),
        Dtype::C32 => Untyped("complex32"),
        Dtype::BC32 => Untyped("bcomplex32"),
        Dtype::U16 => Untyped("uint16"),
        Dtype::U32 => Untyped("uint32"),
        Dtype::U64 => Untyped("uint64"),
        Dtype::F8E4M3 => Untyped("float8_e4m3fn"),
        Dtype::F8E5M2 => Untyped("float8_e5m2"),
        Dtype::F8E4M3Fnuz => Untyped("float8_e4m3fnuz"),
        Dtype::F8E5M2Fnuz => Untyped("float8_e5m2fnuz"),
        Dtype::F8E8M0 => Untyped("float8_e8m0fnu"),
        Dtype::F4 => Untyped("float4_e2m1fn_x2"),
        Dtype::QInt8 => Quantized("QInt8Storage"),
        Dtype::QUInt8 => Quantized("QUInt8Storage"),
        Dtype::QInt32 => Quantized("QInt32Storage"),
        _ => return None,
    })
}

/// PyTorch 2.15 does not swap the bytes of untyped storages, so it reads those of big-endian
/// archives wrongly.
pub(crate) fn holds(dtype: Dtype, byte_order: ByteOrder) -> bool {
    match kind(dtype) {
        None => false,
        Some(Kind::Untyped(_)) => byte_order == ByteOrder::Little || dtype.word_bytes() == 1,
        Some(_) => true,
    }
}

/// PyTorch writes untyped storages into legacy files too, but cannot read them back.
pub(crate) fn legacy_holds(dtype: Dtype) -> bool {
    matches!(kind(dtype), Some(Kind::Typed(_) | Kind::Quantized(_)))
}
