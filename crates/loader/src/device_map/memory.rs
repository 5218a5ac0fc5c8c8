//! How much each device may hold, in accelerate's notation.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use tensorlift_tensor_meta::{Error, ErrorKind};

/// Names a device in a map: a GPU by its number, or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceKey {
    /// The CUDA device of this number: `0`, `cuda:0`.
    Cuda(usize),
    /// Host memory: `cpu`.
    Cpu,
}

/// The capacity of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DeviceMemory {
    /// The device.
    pub device: DeviceKey,
    /// The most bytes of tensors.
    pub max_bytes: u64,
}

impl DeviceMemory {
    /// A device and the most bytes of tensors that it may hold.
    #[must_use]
    pub const fn new(device: DeviceKey, max_bytes: u64) -> Self {
        Self { device, max_bytes }
    }
}

impl FromStr for DeviceKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.strip_prefix("cuda:").unwrap_or(text);
        match (text, number.parse()) {
            ("cpu" | "host", _) => Ok(Self::Cpu),
            (_, Ok(number)) => Ok(Self::Cuda(number)),
            _ => Err(misuse(format!(
                "expected the number of a GPU or cpu as a device, found {text:?}"
            ))),
        }
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(number) => write!(f, "{number}"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

impl Serialize for DeviceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is displayed.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for DeviceKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The number of a GPU, or cpu.",
            "type": "string",
            "pattern": "^([0-9]+|cpu)$",
        })
    }
}

impl FromStr for DeviceMemory {
    type Err = Error;

    /// Parses `0=10GiB`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (device, size) = text.split_once('=').ok_or_else(|| {
            misuse(format!(
                "expected a device and a size, as in 0=10GiB, found {text:?}"
            ))
        })?;
        Ok(Self::new(device.trim().parse()?, parse_size(size.trim())?))
    }
}

/// Parses a number of bytes: `1000`, `10GiB`, `5GB`, `5G`, `1.5KiB`.
///
/// K, M, G and T, with a B or without, are powers of 1,000; KiB, MiB, GiB and TiB are powers of
/// 1,024.
///
/// # Errors
/// [`ErrorKind::Misuse`] for anything else, and for sizes beyond `u64`.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    const UNITS: [(&str, u64); 14] = [
        ("K", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    let refused = || misuse(format!("expected a size, as in 10GiB, found {text:?}"));
    let digits = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let scale = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, scale) = scale.ok_or_else(refused)?;
    let number = number.trim();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*scale).ok_or_else(refused);
    }
    let fraction: f64 = number.parse().map_err(|_| refused())?;
    let bytes = fraction * *scale as f64;
    match bytes >= 0.0 && bytes < u64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(refused()),
    }
}

fn misuse(found: String) -> Error {
    Error::new(ErrorKind::Misuse, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_accelerate() {
        let sizes = [
            ("0", 0),
            ("1000", 1000),
            ("10GiB", 10 << 30),
            ("5 GB", 5_000_000_000),
            ("1.5KiB", 1536),
            ("7mb", 7_000_000),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "-1", "1XB", "1e30TB", "99999999999TiB", "NaN"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices_are_named_by_number_or_cpu() {
        let memory: DeviceMemory = "cuda:1=10GiB".parse().unwrap();
        assert_eq!(memory, DeviceMemory::new(DeviceKey::Cuda(1), 10 << 30));
        let memory: DeviceMemory = "cpu = 1GB".parse().unwrap();
        assert_eq!(memory.device.to_string(), "cpu");
        for text in ["disk=1GB", "0", "=1", "-1=1GB"] {
            assert!(text.parse::<DeviceMemory>().is_err(), "{text}");
        }
    }
}
