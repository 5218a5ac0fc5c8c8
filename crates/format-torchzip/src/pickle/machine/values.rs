//! Opcodes that push one value: constants, numbers, texts and bytes.

use super::super::node::{Id, Node, Span};
use super::super::opcode as op;
use super::super::problem::PickleProblem;
use super::super::text;
use super::{Machine, Step, limit, literal};

/// # Values
impl<'a> Machine<'a> {
    #[inline(always)]
    pub(super) fn value_opcode(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            op::NONE => self.push(Id::NONE),
            op::NEWTRUE => self.push(Id::TRUE),
            op::NEWFALSE => self.push(Id::FALSE),
            op::BININT1 => {
                let value = self.byte()?;
                self.push(Id::small(value))
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.int(value.into())
            }
            op::BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.int(value.into())
            }
            op::LONG1 => {
                let len = self.byte()?;
                self.long(len.into())
            }
            op::LONG4 => {
                let len = i32::from_le_bytes(self.array()?);
                self.long(len.into())
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.array()?);
                self.push_new(Node::Float(value))
            }
            op::BINUNICODE => {
                let len = self.u32()?;
                self.text(len.into())
            }
            op::SHORT_BINUNICODE => {
                let len = self.byte()?;
                self.text(len.into())
            }
            op::BINUNICODE8 => {
                let len = u64::from_le_bytes(self.array()?);
                self.text(len)
            }
            op::SHORT_BINBYTES => {
                let len = self.byte()?;
                self.bytes(len.into(), Node::Bytes)
            }
            op::BINBYTES => {
                let len = self.u32()?;
                self.bytes(len.into(), Node::Bytes)
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let len = u64::from_le_bytes(self.array()?);
                self.bytes(len, Node::Bytes)
            }
            op::SHORT_BINSTRING => {
                let len = self.byte()?;
                self.bytes(len.into(), Node::Str8)
            }
            op::BINSTRING => {
                let len = i32::from_le_bytes(self.array()?);
                let len = u64::try_from(len).map_err(|_| PickleProblem::Length(len.into()))?;
                self.bytes(len, Node::Str8)
            }
            op::INT | op::LONG | op::FLOAT | op::STRING | op::UNICODE => self.line_opcode(opcode),
            _ => self.container_opcode(opcode),
        }
    }

    /// Values of protocol 0, each a line of text.
    fn line_opcode(&mut self, opcode: u8) -> Step<()> {
        let line = self.line()?;
        match (opcode, line) {
            (op::INT, b"01") => self.push(Id::TRUE),
            (op::INT, b"00") => self.push(Id::FALSE),
            (op::INT, line) => self.decimal(line),
            (op::LONG, line) => self.decimal(line.strip_suffix(b"L").unwrap_or(line)),
            (op::FLOAT, line) => {
                let value: f64 = std::str::from_utf8(line)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| literal("a float", line))?;
                self.push_new(Node::Float(value))
            }
            (op::STRING, line) => {
                let bytes = text::unquote(line).ok_or_else(|| literal("a quoted text", line))?;
                self.decoded(&bytes, Node::Str8)
            }
            (_, line) => {
                let text = text::raw_unicode_escape(line)
                    .ok_or_else(|| literal("a text with escapes", line))?;
                self.decoded(&text, Node::Text)
            }
        }
    }

    /// Pushes a new node.
    pub(super) fn push_new(&mut self, node: Node) -> Step<()> {
        let id = self.arena.push(node)?;
        self.push(id)
    }

    fn text(&mut self, len: u64) -> Step<()> {
        let bytes = self.take(len)?;
        // Nearly all texts are names and keys, in ASCII.
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() && !text::is_text(bytes) {
            return Err(PickleProblem::Utf8);
        }
        let span = self.span_of(bytes);
        self.push_new(Node::Text(span))
    }

    fn bytes(&mut self, len: u64, kind: fn(Span) -> Node) -> Step<()> {
        let bytes = self.take(len)?;
        let span = self.span_of(bytes);
        self.push_new(kind(span))
    }

    /// Pushes text that was decoded from a literal.
    fn decoded(&mut self, bytes: &[u8], kind: fn(Span) -> Node) -> Step<()> {
        let span = self.arena.keep_text(bytes)?;
        self.push_new(kind(span))
    }

    fn int(&mut self, value: i64) -> Step<()> {
        match u8::try_from(value) {
            Ok(value) => self.push(Id::small(value)),
            Err(_) => self.push_new(Node::Int(value)),
        }
    }

    /// An integer in little-endian two's complement.
    fn long(&mut self, len: i64) -> Step<()> {
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
            return self.int(i64::from_le_bytes(wide));
        }
        let span = self.span_of(bytes);
        self.push_new(Node::BigInt(span))
    }

    fn decimal(&mut self, line: &'a [u8]) -> Step<()> {
        // A byte holds 2.4 decimal digits.
        self.check_integer(line.len() as u64 * 5 / 12)?;
        let trimmed = line.trim_ascii();
        let text = std::str::from_utf8(trimmed).unwrap_or("");
        if let Ok(value) = text.parse() {
            return self.int(value);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(literal("an integer", line));
        }
        let span = self.span_of(trimmed);
        self.push_new(Node::BigText(span))
    }

    fn check_integer(&self, len: u64) -> Step<()> {
        let ceiling = self.ceilings.integer_bytes as u64;
        if len > ceiling {
            return Err(limit("bytes of an integer in a pickle", ceiling, len));
        }
        Ok(())
    }
}
