use bytemuck::{CheckedBitPattern, NoUninit};
use half::{bf16, f16};
use tensorlift_tensor_meta::Dtype;

/// A Rust type that is the element of a [`Dtype`].
pub trait Element: CheckedBitPattern + NoUninit + Send + Sync + private::Sealed {
    /// The dtype.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),* $(,)?) => {
        $(
            impl Element for $element {
                const DTYPE: Dtype = Dtype::$dtype;
            }
            impl private::Sealed for $element {}
        )*
    };
}

elements! {
    bool => Bool,
    i8 => I8,
    u8 => U8,
    i16 => I16,
    u16 => U16,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    u64 => U64,
    f16 => F16,
    bf16 => BF16,
    f32 => F32,
    f64 => F64,
}

mod private {
    pub trait Sealed {}
}
