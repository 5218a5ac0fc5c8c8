//! Hashes of files and of parts of them, computed while they are read.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tensorlift_tensor_meta::Extent;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// BLAKE3, of 32 bytes: computed by all reading threads at once, in any order.
    Blake3,
    /// SHA-256: one thread at a time, in the order of the bytes.
    Sha256,
    /// The SHA-1 that git gives a file: of `blob`, a space, the length in decimal digits, a zero
    /// byte and the bytes.
    ///
    /// SHA-1 withstands damage, not an attacker who made the file.
    GitSha1,
}

/// A hash of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: [u8; 32],
}

/// Bytes of a shard that a load hashes: all of them are read, whether a tensor wants them or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashRange {
    /// The bytes, such as those of a whole file or of one tensor.
    pub extent: Extent,
    /// The function.
    pub algorithm: HashAlgorithm,
    /// What the hash must be; another one fails the load. Default: nothing.
    pub expected: Option<Digest>,
}

impl HashAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Blake3, Self::Sha256, Self::GitSha1];

    /// The name that people know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Blake3 => "BLAKE3",
            HashAlgorithm::Sha256 => "SHA-256",
            HashAlgorithm::GitSha1 => "git SHA-1",
        }
    }

    /// The hash of bytes that are in memory.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut own = [0; 32];
        match self {
            HashAlgorithm::Blake3 => own = blake3::hash(bytes).into(),
            HashAlgorithm::Sha256 => own = Sha256::digest(bytes).into(),
            HashAlgorithm::GitSha1 => {
                let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
                hasher.update(bytes);
                own[..20].copy_from_slice(&hasher.finalize());
            }
        }
        Digest {
            algorithm: self,
            bytes: own,
        }
    }

    /// The length of its hashes in bytes.
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            HashAlgorithm::Blake3 | HashAlgorithm::Sha256 => 32,
            HashAlgorithm::GitSha1 => 20,
        }
    }
}

impl Digest {
    /// A hash of this algorithm; `None` unless `bytes` are as long as its hashes.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        let mut own = [0; 32];
        (bytes.len() == algorithm.byte_len()).then(|| {
            own[..bytes.len()].copy_from_slice(bytes);
            Self {
                algorithm,
                bytes: own,
            }
        })
    }

    /// A hash in hexadecimal digits of either case; `None` if they are too few, too many or no
    /// digits.
    #[must_use]
    pub fn from_hex(algorithm: HashAlgorithm, digits: &str) -> Option<Self> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let pair = |pair: &[u8]| Some((digit(&pair[0])? * 16 + digit(pair.get(1)?)?) as u8);
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
        Self::new(algorithm, &bytes?)
    }

    /// The function that made it.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.byte_len()]
    }
}

impl HashRange {
    /// A hash of these bytes.
    #[must_use]
    pub const fn new(extent: Extent, algorithm: HashAlgorithm) -> Self {
        Self {
            extent,
            algorithm,
            expected: None,
        }
    }

    /// These bytes, which must have this hash.
    #[must_use]
    pub const fn expect(extent: Extent, expected: Digest) -> Self {
        Self {
            extent,
            algorithm: expected.algorithm,
            expected: Some(expected),
        }
    }
}

/// Hexadecimal digits in lower case.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.algorithm)
    }
}

/// As it is displayed.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is displayed.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A hash in hexadecimal digits.",
            "type": "string",
            "pattern": "^[0-9a-f]+$",
        })
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `blake3` or `sha256`.
impl FromStr for HashAlgorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "blake3" => Ok(HashAlgorithm::Blake3),
            "sha256" => Ok(HashAlgorithm::Sha256),
            _ => Err(format!("expected blake3 or sha256, found {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_become_a_hash_and_digits_again() {
        let digits = "00ff".repeat(16);
        let digest = Digest::from_hex(HashAlgorithm::Sha256, &digits.to_uppercase()).unwrap();
        assert_eq!(digest.to_string(), digits);
        assert_eq!(digest.bytes().len(), 32);
        let digest = Digest::from_hex(HashAlgorithm::GitSha1, &digits[..40]).unwrap();
        assert_eq!(digest.to_string(), digits[..40]);
        for wrong in [
            "",
            "0",
            &digits[1..],
            &digits[..40],
            &digits.replace('f', "g"),
        ] {
            assert_eq!(
                Digest::from_hex(HashAlgorithm::Blake3, wrong),
                None,
                "{wrong}"
            );
        }
    }
}
