//! The arguments of opcodes: numbers, lengths, lines and texts.

use super::super::PickleProblem;
use super::super::limits::Budget;
use super::super::text;
use super::super::value::{Arena, Id, Node, Span};
use super::{Machine, Step, limit, literal};

/// # Reading arguments
impl<'a> Machine<'a> {
    #[inline]
    pub(super) fn byte(&mut self) -> Step<u8> {
        let byte = *self
            .pickle
            .get(self.position)
            .ok_or(PickleProblem::Truncated)?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let (array, _) = self.pickle[self.position..]
            .split_first_chunk::<N>()
            .ok_or(PickleProblem::Truncated)?;
        self.position += N;
        Ok(*array)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next `len` bytes of a text or byte string.
    #[inline]
    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
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
            return Err(if within < rest.len() {
                limit(
                    "bytes of a text in a pickle",
                    within as u64,
                    within as u64 + 1,
                )
            } else {
                PickleProblem::Truncated
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

    pub(super) fn text(&mut self, len: u64, arena: &mut Arena, budget: &mut Budget) -> Step<()> {
        let bytes = self.take(len)?;
        // Nearly all texts are names and keys, in ASCII.
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() && !text::is_text(bytes) {
            return Err(PickleProblem::Utf8);
        }
        let id = arena.push(Node::Text(self.span_of(bytes)), budget)?;
        self.push(id, budget)
    }

    pub(super) fn bytes(
        &mut self,
        len: u64,
        kind: fn(Span) -> Node,
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        let bytes = self.take(len)?;
        let id = arena.push(kind(self.span_of(bytes)), budget)?;
        self.push(id, budget)
    }

    /// Pushes text that was decoded from a literal.
    pub(super) fn kept(
        &mut self,
        bytes: &[u8],
        kind: fn(Span) -> Node,
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        let span = arena
            .keep_text(bytes, budget)?
            .ok_or_else(|| limit("bytes of decoded text", u32::MAX.into(), u64::MAX))?;
        let id = arena.push(kind(span), budget)?;
        self.push(id, budget)
    }

    pub(super) fn int(&mut self, value: i64, arena: &mut Arena, budget: &mut Budget) -> Step<()> {
        let id = match u8::try_from(value) {
            Ok(value) => Id::small(value),
            Err(_) => arena.push(Node::Int(value), budget)?,
        };
        self.push(id, budget)
    }

    /// An integer in little-endian two's complement.
    pub(super) fn long(&mut self, len: i64, arena: &mut Arena, budget: &mut Budget) -> Step<()> {
        let len = u64::try_from(len).map_err(|_| PickleProblem::Length(len))?;
        self.check_integer(len)?;
        let mut bytes = self.take(len)?;
        // Bytes that only repeat the sign add nothing.
        while let [rest @ .., next, 0 | 0xff] = bytes
            && bytes.len() > 8
            && (*next as i8 >> 7) as u8 == bytes[bytes.len() - 1]
        {
            bytes = &bytes[..rest.len() + 1];
        }
        if bytes.len() <= 8 {
            let sign = bytes.last().map_or(0, |&byte| (byte as i8 >> 7) as u8);
            let mut wide = [sign; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            return self.int(i64::from_le_bytes(wide), arena, budget);
        }
        let id = arena.push(Node::BigInt(self.span_of(bytes)), budget)?;
        self.push(id, budget)
    }

    pub(super) fn decimal(
        &mut self,
        line: &'a [u8],
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        // A byte holds 2.4 decimal digits.
        self.check_integer(line.len() as u64 * 5 / 12)?;
        let trimmed = line.trim_ascii();
        let text = std::str::from_utf8(trimmed).unwrap_or("");
        if let Ok(value) = text.parse() {
            return self.int(value, arena, budget);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(literal("an integer", line));
        }
        let id = arena.push(Node::BigText(self.span_of(trimmed)), budget)?;
        self.push(id, budget)
    }

    fn check_integer(&self, len: u64) -> Step<()> {
        let ceiling = self.ceilings.integer_bytes as u64;
        if len > ceiling {
            return Err(limit("bytes of an integer in a pickle", ceiling, len));
        }
        Ok(())
    }
}
