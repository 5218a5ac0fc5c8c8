use serde::{Deserialize, Serialize};

/// A sum over all tensors, whatever their order: readers that hand out a map have none.
///
/// Python's `zlib.crc32` gives the same, so that every engine can be checked alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How many tensors there are.
    pub tensors: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// The sum of the CRC-32 of each tensor's bytes times that of its name, modulo 2⁶⁴.
    pub sum: u64,
    /// The sum of the CRC-32 of each tensor's bytes: for readers that have names of their own.
    pub unnamed: u64,
}

impl Checksum {
    /// Adds a tensor: its full name and its row-major little-endian bytes.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) {
        self.parts(name, std::iter::once(bytes));
    }

    /// Adds a tensor whose bytes come in parts.
    pub fn parts<'a>(&mut self, name: &str, parts: impl Iterator<Item = &'a [u8]>) {
        let mut of_bytes = crc32fast::Hasher::new();
        for part in parts {
            of_bytes.update(part);
            self.bytes += part.len() as u64;
        }
        // An even factor would lose bits of the other one.
        let of_name = u64::from(crc32fast::hash(name.as_bytes())) | 1;
        let of_bytes = u64::from(of_bytes.finalize());
        self.sum = self.sum.wrapping_add(of_bytes.wrapping_mul(of_name));
        self.unnamed = self.unnamed.wrapping_add(of_bytes);
        self.tensors += 1;
    }

    /// Whether the bytes are the same, whatever the tensors are called.
    #[must_use]
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        let unnamed = |it: &Self| (it.tensors, it.bytes, it.unnamed);
        unnamed(self) == unnamed(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[(&str, &[u8])]) -> Checksum {
        let mut checksum = Checksum::default();
        for (name, bytes) in tensors {
            checksum.tensor(name, bytes);
        }
        checksum
    }

    #[test]
    fn names_and_bytes_count_and_cannot_be_exchanged() {
        let right = of(&[("a", b"12"), ("b", b"34")]);
        assert_ne!(right, of(&[("a", b"34"), ("b", b"12")]));
        assert_ne!(right, of(&[("a", b"12"), ("c", b"34")]));
        assert_ne!(right, of(&[("a", b"12"), ("b", b"35")]));
        assert_ne!(right, of(&[("a", b"12")]));
    }

    #[test]
    fn other_names_have_the_same_bytes() {
        let (one, other) = (of(&[("a", b"12")]), of(&[("b", b"12")]));
        assert_ne!(one, other);
        assert!(one.has_bytes_of(&other));
        assert!(!one.has_bytes_of(&of(&[("a", b"21")])));
    }

    #[test]
    fn parts_are_the_whole() {
        let mut parts = Checksum::default();
        parts.parts("a", [b"1".as_slice(), b"", b"23"].into_iter());
        assert_eq!(parts, of(&[("a", b"123")]));
    }

    #[test]
    fn it_is_what_python_computes() {
        // zlib.crc32(b"12") * (zlib.crc32(b"a") | 1) % 2**64
        assert_eq!(of(&[("a", b"12")]).sum, 0x4f53_44cd * 0xe8b7_be43);
    }
}
