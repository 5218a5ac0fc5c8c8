//! The pickle of a state dict, in the opcodes that PyTorch's own reader takes.

use std::collections::HashMap;
use std::io::{self, Write};

use super::kind::Kind;
use super::state_dict::{StateDict, StateDictTensor};

/// Pairs that Python's pickler adds to a dict at once.
const PAIRS_AT_ONCE: usize = 1000;

/// Writes the state dict as an `OrderedDict` in a pickle of protocol 2.
pub(super) fn write(state_dict: &StateDict, out: impl Write) -> io::Result<()> {
    let mut pickler = Pickler {
        out,
        memo: HashMap::new(),
    };
    pickler.raw(b"\x80\x02")?;
    pickler.empty_ordered_dict()?;
    for tensors in state_dict.tensors.chunks(PAIRS_AT_ONCE) {
        pickler.raw(b"(")?;
        for tensor in tensors {
            pickler.text(&tensor.name)?;
            let bytes = state_dict.storages[tensor.storage];
            pickler.tensor(tensor, bytes)?;
        }
        pickler.raw(b"u")?;
    }
    pickler.raw(b".")
}

struct Pickler<W> {
    out: W,
    /// Numbers of what is written again and again; all of it is constant, so few suffice.
    memo: HashMap<(&'static str, &'static str), u8>,
}

impl<W: Write> Pickler<W> {
    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`;
    /// `_v3` takes the dtype as one more.
    fn tensor(&mut self, tensor: &StateDictTensor, bytes: u64) -> io::Result<()> {
        let (function, module, class) = match tensor.kind {
            Kind::Typed(class) => ("_rebuild_tensor_v2", "torch", class),
            Kind::Untyped(_) => ("_rebuild_tensor_v3", "torch.storage", "UntypedStorage"),
        };
        self.global("torch._utils", function)?;
        self.raw(b"(")?;

        self.raw(b"(")?;
        self.constant("storage")?;
        self.global(module, class)?;
        self.text(&tensor.storage.to_string())?;
        self.constant("cpu")?;
        self.integer(bytes / tensor.unit)?;
        self.raw(b"tQ")?;

        self.integer(0)?;
        self.integers(&tensor.sizes)?;
        self.integers(&tensor.strides)?;
        self.raw(if tensor.requires_grad {
            b"\x88"
        } else {
            b"\x89"
        })?;
        self.empty_ordered_dict()?;
        if let Kind::Untyped(dtype) = tensor.kind {
            self.global("torch", dtype)?;
        }
        self.raw(b"tR")
    }

    fn empty_ordered_dict(&mut self) -> io::Result<()> {
        self.global("collections", "OrderedDict")?;
        self.raw(b")R")
    }

    fn global(&mut self, module: &'static str, name: &'static str) -> io::Result<()> {
        self.memorised((module, name), |pickler| {
            pickler.raw(format!("c{module}\n{name}\n").as_bytes())
        })
    }

    fn constant(&mut self, text: &'static str) -> io::Result<()> {
        self.memorised(("", text), |pickler| pickler.text(text))
    }

    /// Writes the object of `key`, or a reference to where it was written.
    fn memorised(
        &mut self,
        key: (&'static str, &'static str),
        write: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(&number) = self.memo.get(&key) {
            return self.raw(&[b'h', number]);
        }
        write(self)?;
        // There are far fewer constants than 256.
        let number = self.memo.len() as u8;
        self.memo.insert(key, number);
        self.raw(&[b'q', number])
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let len = u32::try_from(text.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name of over 4 GiB"))?;
        self.raw(b"X")?;
        self.raw(&len.to_le_bytes())?;
        self.raw(text.as_bytes())
    }

    fn integers(&mut self, values: &[u64]) -> io::Result<()> {
        let close: &[u8] = match values.len() {
            0 => return self.raw(b")"),
            1 => b"\x85",
            2 => b"\x86",
            3 => b"\x87",
            _ => {
                self.raw(b"(")?;
                b"t"
            }
        };
        for &value in values {
            self.integer(value)?;
        }
        self.raw(close)
    }

    fn integer(&mut self, value: u64) -> io::Result<()> {
        let bytes = value.to_le_bytes();
        match value {
            0..=0xff => self.raw(&[b'K', bytes[0]]),
            0x100..=0xffff => self.raw(&[b'M', bytes[0], bytes[1]]),
            0x1_0000..=0x7fff_ffff => {
                self.raw(b"J")?;
                self.raw(&bytes[..4])
            }
            _ => {
                // The shortest form that leaves the bit of the sign clear.
                let len = 8 - (value.leading_zeros() as usize - 1) / 8;
                self.raw(&[0x8a, len as u8])?;
                self.raw(&bytes[..len])
            }
        }
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(value: u64) -> Vec<u8> {
        let mut pickler = Pickler {
            out: b"\x80\x02".to_vec(),
            memo: HashMap::new(),
        };
        pickler.integer(value).unwrap();
        pickler.raw(b".").unwrap();
        pickler.out
    }

    #[test]
    fn integers_of_every_width_are_read_back() {
        let bits = (0..63).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]);
        for value in bits.chain([i64::MAX as u64]) {
            let read = serde_pickle::value_from_slice(&integer(value), Default::default());
            let expected = serde_pickle::Value::I64(value as i64);
            let read = match read.unwrap() {
                serde_pickle::Value::Int(long) => long.to_string(),
                other => other.to_string(),
            };
            assert_eq!(read, expected.to_string());
        }
        assert_eq!(integer(1 << 31), b"\x80\x02\x8a\x05\0\0\0\x80\0.");
    }
}
