use safetensors::Dtype as FormatDtype;
use tensorlift_tensor_meta::Dtype;

/// The dtypes of safetensors 0.8.
const PAIRS: [(FormatDtype, Dtype); 22] = [
    (FormatDtype::BOOL, Dtype::Bool),
    (FormatDtype::F4, Dtype::F4),
    (FormatDtype::F6_E2M3, Dtype::F6E2M3),
    (FormatDtype::F6_E3M2, Dtype::F6E3M2),
    (FormatDtype::U8, Dtype::U8),
    (FormatDtype::I8, Dtype::I8),
    (FormatDtype::F8_E5M2, Dtype::F8E5M2),
    (FormatDtype::F8_E4M3, Dtype::F8E4M3),
    (FormatDtype::F8_E8M0, Dtype::F8E8M0),
    (FormatDtype::F8_E4M3FNUZ, Dtype::F8E4M3Fnuz),
    (FormatDtype::F8_E5M2FNUZ, Dtype::F8E5M2Fnuz),
    (FormatDtype::I16, Dtype::I16),
    (FormatDtype::U16, Dtype::U16),
    (FormatDtype::F16, Dtype::F16),
    (FormatDtype::BF16, Dtype::BF16),
    (FormatDtype::I32, Dtype::I32),
    (FormatDtype::U32, Dtype::U32),
    (FormatDtype::F32, Dtype::F32),
    (FormatDtype::C64, Dtype::C64),
    (FormatDtype::F64, Dtype::F64),
    (FormatDtype::I64, Dtype::I64),
    (FormatDtype::U64, Dtype::U64),
];

/// The dtype of the same name; `None` for dtypes newer than this crate.
#[must_use]
pub fn from_format(dtype: FormatDtype) -> Option<Dtype> {
    PAIRS
        .into_iter()
        .find(|pair| pair.0 == dtype)
        .map(|pair| pair.1)
}

/// The format's name for a dtype; `None` for those only PyTorch has.
#[must_use]
pub fn to_format(dtype: Dtype) -> Option<FormatDtype> {
    PAIRS
        .into_iter()
        .find(|pair| pair.1 == dtype)
        .map(|pair| pair.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_widths_are_the_formats_own() {
        for (format, ours) in PAIRS {
            assert_eq!(format.to_string(), ours.as_str());
            assert_eq!(format.bitsize() as u64, ours.bits());
        }
    }
}
