use std::str::FromStr;

/// A number of bytes as people write it: `5GB`, `500 MiB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(u64);

/// Decimal as in `transformers`, and binary with an `i`.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl Size {
    pub(super) const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let unit = unit.trim().to_ascii_lowercase();
        let factor = UNITS.iter().find(|(name, _)| *name == unit);
        let bytes = factor
            .zip(number.parse::<u64>().ok())
            .and_then(|((_, factor), number)| number.checked_mul(*factor));
        match bytes {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err("expected a size above 0 such as 5GB, 500MiB or 4096".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_unless_they_say_so() {
        for (text, bytes) in [
            ("5GB", 5_000_000_000),
            ("5 gib", 5 << 30),
            ("4096", 4096),
            ("12b", 12),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0", "GB", "5XB", "-1", "1.5GB", "99999999999TB", "5GBs"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
