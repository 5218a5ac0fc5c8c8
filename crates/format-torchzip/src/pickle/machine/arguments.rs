//! The arguments of opcodes: fixed numbers, counted runs of bytes, lines.

use super::super::node::Span;
use super::super::problem::PickleProblem;
use super::{Machine, Step, limit};

/// # Reading arguments
impl<'a> Machine<'a> {
    pub(super) fn byte(&mut self) -> Step<u8> {
        let byte = *self
            .pickle
            .get(self.position)
            .ok_or(PickleProblem::Truncated)?;
        self.position += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let (array, _) = self.pickle[self.position..]
            .split_first_chunk::<N>()
            .ok_or(PickleProblem::Truncated)?;
        self.position += N;
        Ok(*array)
    }

    pub(super) fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next `len` bytes of a text or byte string.
    pub(super) fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let ceiling = self.ceilings.string_bytes;
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= ceiling)
            .ok_or_else(|| limit("bytes of a text in a pickle", ceiling as u64, len))?;
        let bytes = self.pickle[self.position..]
            .get(..len)
            .ok_or(PickleProblem::Truncated)?;
        self.position += len;
        Ok(bytes)
    }

    /// The bytes up to the next line feed, which is left out.
    pub(super) fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.pickle[self.position..];
        let within = rest.len().min(self.ceilings.string_bytes);
        let len = rest[..within].iter().position(|&byte| byte == b'\n');
        let Some(len) = len else {
            return Err(match within < rest.len() {
                true => {
                    let ceiling = within as u64;
                    limit("bytes of a text in a pickle", ceiling, ceiling + 1)
                }
                false => PickleProblem::Truncated,
            });
        };
        self.position += len + 1;
        let line = &rest[..len];
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The span of bytes that were taken from the pickle just now.
    pub(super) fn span_of(&self, bytes: &[u8]) -> Span {
        let start = bytes.as_ptr() as usize - self.pickle.as_ptr() as usize;
        Span {
            start: start as u32,
            len: bytes.len() as u32,
        }
    }
}
