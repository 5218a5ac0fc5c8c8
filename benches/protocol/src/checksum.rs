use serde::{Deserialize, Serialize};

/// A sum over all tensors, whatever their order: readers that hand out a map have none.
///
/// It is made of sums and products alone, so that a GPU computes it where the tensors are, and
/// every engine can be checked alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How many tensors there are.
    pub tensors: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// The sum of each tensor's own sum times the CRC-32 of its name, modulo 2⁶⁴.
    pub sum: u64,
    /// The sum of each tensor's own sum: for readers that have names of their own.
    pub unnamed: u64,
}

impl Checksum {
    /// Adds a tensor: its full name and its row-major little-endian bytes.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) {
        self.parts(name, std::iter::once(bytes));
    }

    /// Adds a tensor whose bytes come in parts.
    pub fn parts<'a>(&mut self, name: &str, parts: impl Iterator<Item = &'a [u8]>) {
        let mut own = TensorSum::default();
        for part in parts {
            own.update(part);
            self.bytes += part.len() as u64;
        }
        // An even factor would lose bits of the other one.
        let of_name = u64::from(crc32fast::hash(name.as_bytes())) | 1;
        let of_bytes = own.finish();
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

/// The sum of a tensor's words of eight bytes, the last one filled up with zeros, each times an
/// odd number of its own: no change of one word goes unseen, and words cannot be exchanged.
#[derive(Default)]
struct TensorSum {
    sum: u64,
    words: u64,
    /// What is left of the last part.
    tail: [u8; 8],
    tail_len: usize,
}

impl TensorSum {
    fn update(&mut self, mut bytes: &[u8]) {
        if self.tail_len > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(8 - self.tail_len));
            self.tail[self.tail_len..][..head.len()].copy_from_slice(head);
            self.tail_len += head.len();
            bytes = rest;
            if self.tail_len < 8 {
                return;
            }
            self.word(self.tail);
            (self.tail, self.tail_len) = ([0; 8], 0);
        }
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(*word));
        self.tail[..rest.len()].copy_from_slice(rest);
        self.tail_len = rest.len();
    }

    fn word(&mut self, word: [u8; 8]) {
        let product = u64::from_le_bytes(word).wrapping_mul(2 * self.words + 1);
        self.sum = self.sum.wrapping_add(product);
        self.words += 1;
    }

    fn finish(mut self) -> u64 {
        if self.tail_len > 0 {
            self.word(self.tail);
        }
        self.sum
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
        let words = of(&[("a", b"11111111222222223")]);
        assert_ne!(words, of(&[("a", b"22222222111111113")]));
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
        let whole = b"0123456789abcdefghijk";
        for first in 0..whole.len() {
            for second in first..whole.len() {
                let mut parts = Checksum::default();
                let cuts = [&whole[..first], &whole[first..second], &whole[second..]];
                parts.parts("a", cuts.into_iter());
                assert_eq!(parts, of(&[("a", whole)]), "{first} {second}");
            }
        }
    }

    #[test]
    fn it_is_what_python_computes() {
        // (int.from_bytes(b"12345678", "little") + 3 * ord("9")) * (zlib.crc32(b"a") | 1) % 2**64
        let words = 0x3837_3635_3433_3231u64 + 3 * 0x39;
        assert_eq!(
            of(&[("a", b"123456789")]).sum,
            words.wrapping_mul(0xe8b7_be43)
        );
    }
}
