use std::fmt;

/// The type of a tensor's elements.
///
/// The names are those of the safetensors format (0.8); the types that only PyTorch writes carry
/// PyTorch's names in the same style.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// One byte: 0 or 1.
    Bool,
    /// 4-bit float (OCP MX), two in a byte.
    F4,
    /// 6-bit float, 2 exponent and 3 mantissa bits (OCP MX), four in three bytes.
    F6E2M3,
    /// 6-bit float, 3 exponent and 2 mantissa bits (OCP MX), four in three bytes.
    F6E3M2,
    /// 8-bit float, 5 exponent and 2 mantissa bits.
    F8E5M2,
    /// 8-bit float, 4 exponent and 3 mantissa bits, finite.
    F8E4M3,
    /// [`Dtype::F8E5M2`] without negative zero.
    F8E5M2Fnuz,
    /// [`Dtype::F8E4M3`] without negative zero.
    F8E4M3Fnuz,
    /// 8-bit power of two, the scale type of OCP MX.
    F8E8M0,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// IEEE half precision.
    F16,
    /// The upper half of [`Dtype::F32`].
    BF16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// IEEE single precision.
    F32,
    /// Complex of two [`Dtype::F16`]; PyTorch only.
    C32,
    /// Complex of two [`Dtype::BF16`]; PyTorch only.
    BC32,
    /// IEEE double precision.
    F64,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// Complex of two [`Dtype::F32`].
    C64,
    /// Complex of two [`Dtype::F64`]; PyTorch only.
    C128,
    /// Quantized signed byte; PyTorch only.
    QInt8,
    /// Quantized unsigned byte; PyTorch only.
    QUInt8,
    /// Quantized 32-bit integer; PyTorch only.
    QInt32,
    /// Quantized, two values in a byte; PyTorch only.
    QUInt4x2,
    /// Quantized, four values in a byte; PyTorch only.
    QUInt2x4,
}

impl Dtype {
    /// Every dtype, by growing width.
    pub const ALL: &[Dtype] = &[
        Dtype::QUInt2x4,
        Dtype::F4,
        Dtype::QUInt4x2,
        Dtype::F6E2M3,
        Dtype::F6E3M2,
        Dtype::Bool,
        Dtype::F8E5M2,
        Dtype::F8E4M3,
        Dtype::F8E5M2Fnuz,
        Dtype::F8E4M3Fnuz,
        Dtype::F8E8M0,
        Dtype::I8,
        Dtype::U8,
        Dtype::QInt8,
        Dtype::QUInt8,
        Dtype::I16,
        Dtype::U16,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I32,
        Dtype::U32,
        Dtype::F32,
        Dtype::C32,
        Dtype::BC32,
        Dtype::QInt32,
        Dtype::F64,
        Dtype::I64,
        Dtype::U64,
        Dtype::C64,
        Dtype::C128,
    ];

    /// The width of one element in bits; below 8 for the packed types.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Dtype::QUInt2x4 => 2,
            Dtype::F4 | Dtype::QUInt4x2 => 4,
            Dtype::F6E2M3 | Dtype::F6E3M2 => 6,
            Dtype::Bool
            | Dtype::F8E5M2
            | Dtype::F8E4M3
            | Dtype::F8E5M2Fnuz
            | Dtype::F8E4M3Fnuz
            | Dtype::F8E8M0
            | Dtype::I8
            | Dtype::U8
            | Dtype::QInt8
            | Dtype::QUInt8 => 8,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 16,
            Dtype::I32 | Dtype::U32 | Dtype::F32 | Dtype::C32 | Dtype::BC32 | Dtype::QInt32 => 32,
            Dtype::F64 | Dtype::I64 | Dtype::U64 | Dtype::C64 => 64,
            Dtype::C128 => 128,
        }
    }

    /// The width of one element in bytes, or `None` for the packed types.
    #[must_use]
    pub const fn byte_len(self) -> Option<usize> {
        match self.bits() {
            bits if bits % 8 == 0 => Some((bits / 8) as usize),
            _ => None,
        }
    }

    /// The alignment in bytes that typed access needs: the element's size, 1 for packed types.
    #[must_use]
    pub const fn alignment(self) -> usize {
        match self.byte_len() {
            Some(bytes) => bytes,
            None => 1,
        }
    }

    /// The bytes that a change of byte order reverses as one: the element, or a half of a complex.
    #[must_use]
    pub const fn word_bytes(self) -> usize {
        match self {
            _ if self.is_complex() => self.alignment() / 2,
            _ => self.alignment(),
        }
    }

    /// Whether an element is a pair of real and imaginary part.
    #[must_use]
    pub const fn is_complex(self) -> bool {
        matches!(self, Dtype::C32 | Dtype::BC32 | Dtype::C64 | Dtype::C128)
    }

    /// The name, as safetensors writes it where safetensors has the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Dtype::Bool => "BOOL",
            Dtype::F4 => "F4",
            Dtype::F6E2M3 => "F6_E2M3",
            Dtype::F6E3M2 => "F6_E3M2",
            Dtype::F8E5M2 => "F8_E5M2",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::F8E5M2Fnuz => "F8_E5M2FNUZ",
            Dtype::F8E4M3Fnuz => "F8_E4M3FNUZ",
            Dtype::F8E8M0 => "F8_E8M0",
            Dtype::I8 => "I8",
            Dtype::U8 => "U8",
            Dtype::I16 => "I16",
            Dtype::U16 => "U16",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::I32 => "I32",
            Dtype::U32 => "U32",
            Dtype::F32 => "F32",
            Dtype::C32 => "C32",
            Dtype::BC32 => "BC32",
            Dtype::F64 => "F64",
            Dtype::I64 => "I64",
            Dtype::U64 => "U64",
            Dtype::C64 => "C64",
            Dtype::C128 => "C128",
            Dtype::QInt8 => "QINT8",
            Dtype::QUInt8 => "QUINT8",
            Dtype::QInt32 => "QINT32",
            Dtype::QUInt4x2 => "QUINT4X2",
            Dtype::QUInt2x4 => "QUINT2X4",
        }
    }

    /// The dtype of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.as_str() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Dtype {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The names of all dtypes.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for Dtype {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dtype".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Dtype::ALL.iter().map(|dtype| dtype.as_str()).collect();
        schemars::json_schema!({
            "description": "The type of a tensor's elements, named as in the safetensors format.",
            "type": "string",
            "enum": names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.as_str()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("f32"), None);
    }

    #[test]
    fn all_is_sorted_by_width_and_alignments_are_powers_of_two() {
        assert!(Dtype::ALL.is_sorted_by_key(|dtype| dtype.bits()));
        assert!(
            Dtype::ALL
                .iter()
                .all(|dtype| dtype.alignment().is_power_of_two())
        );
    }

    #[test]
    fn complex_words_are_halves() {
        assert_eq!(Dtype::C64.word_bytes(), 4);
        assert_eq!(Dtype::F64.word_bytes(), 8);
        assert_eq!(Dtype::F4.word_bytes(), 1);
    }
}
