//! The tokens of a header: JSON, read in place.
//!
//! Nearly every header has neither escapes nor control characters, which is checked once for all
//! bytes; then a string ends at the next quote.
//! Strings with escapes and numbers of unknown fields are passed to `serde_json`.

use std::borrow::Cow;

use crate::Error;

/// The nesting that an unknown field may have: as deep as the reference implementation reads in a
/// tensor's description.
const UNKNOWN_DEPTH: usize = 125;

/// A reading position in a header.
pub(crate) struct Tokens<'h> {
    header: &'h str,
    at: usize,
    /// True if no text has escapes or control characters.
    is_plain: bool,
}

impl<'h> Tokens<'h> {
    pub(crate) fn new(header: &'h str) -> Self {
        // Without a branch for each byte, so that the compiler vectorizes the loop.
        let is_special = |byte: u8| (byte < b' ') | (byte == b'\\');
        let special = |found, byte| found | is_special(byte);
        Self {
            header,
            at: 0,
            is_plain: !header.bytes().fold(false, special),
        }
    }

    /// The position in the header, in bytes.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Reads a map, pair by pair: `value` gets the key and reads what belongs to it.
    pub(crate) fn map(
        &mut self,
        mut value: impl FnMut(&mut Self, Cow<'h, str>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect(b'{', "'{'")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.text()?;
            self.expect(b':', "':'")?;
            value(self, key)?;
            if !self.take(b',') {
                return self.expect(b'}', "',' or '}'");
            }
        }
    }

    /// Reads a list, item by item.
    pub(crate) fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect(b'[', "'['")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.take(b',') {
                return self.expect(b']', "',' or ']'");
            }
        }
    }

    /// Reads a text; borrowed unless it has escapes.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Cow<'h, str>, Error> {
        self.expect(b'"', "a text")?;
        let rest = &self.header[self.at..];
        if self.is_plain
            && let Some(len) = memchr::memchr(b'"', rest.as_bytes())
        {
            self.at += len + 1;
            return Ok(Cow::Borrowed(&rest[..len]));
        }
        self.unusual_text()
    }

    /// Reads a text that may have escapes, or no end.
    #[cold]
    fn unusual_text(&mut self) -> Result<Cow<'h, str>, Error> {
        let (header, start) = (self.header, self.at);
        let mut has_escapes = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.at = (self.at + 2).min(header.len());
                }
                Some(0..b' ') => return Err(self.wrong("a control character in its escaped form")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("the end of a text")),
            }
        }
        self.at += 1;
        if !has_escapes {
            return Ok(Cow::Borrowed(&header[start..self.at - 1]));
        }
        serde_json::from_str(&header[start - 1..self.at])
            .map(Cow::Owned)
            .map_err(|_| self.wrong_at(start - 1, "a text whose escapes are characters"))
    }

    /// Reads a whole number.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        self.space();
        let start = self.at;
        let rest = &self.header.as_bytes()[start..];
        let (mut number, mut len) = (0u64, 0);
        while let Some(digit @ 0..=9) = rest.get(len).map(|byte| byte.wrapping_sub(b'0')) {
            number = number.wrapping_mul(10).wrapping_add(digit.into());
            len += 1;
        }
        self.at += len;
        let number = match len {
            // So many digits cannot overflow.
            1..=19 => Some(number),
            _ => self.header[start..self.at].parse().ok(),
        };
        // JSON has no leading zeros.
        number
            .filter(|_| len == 1 || rest[0] != b'0')
            .ok_or_else(|| self.wrong_at(start, "a whole number below 2^64"))
    }

    /// Reads a null, if there is one.
    pub(crate) fn null(&mut self) -> bool {
        self.space();
        self.literal("null")
    }

    /// Reads any value, as strictly as the reference implementation: nesting is bounded, numbers
    /// fit a float, escapes are characters. The value is dropped.
    pub(crate) fn unknown(&mut self) -> Result<(), Error> {
        self.nested(UNKNOWN_DEPTH)
    }

    fn nested(&mut self, depth: usize) -> Result<(), Error> {
        self.space();
        match self.peek() {
            Some(b'[' | b'{') if depth == 0 => Err(self.wrong("fewer lists within one another")),
            Some(b'[') => self.list(|tokens| tokens.nested(depth - 1)),
            Some(b'{') => self.map(|tokens, _| tokens.nested(depth - 1)),
            Some(b'"') => self.text().map(drop),
            Some(b'-' | b'0'..=b'9') => self.float(),
            _ if ["null", "true", "false"]
                .into_iter()
                .any(|it| self.literal(it)) =>
            {
                Ok(())
            }
            _ => Err(self.wrong("a value")),
        }
    }

    fn float(&mut self) -> Result<(), Error> {
        let start = self.at;
        while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        let number = serde_json::from_str::<f64>(&self.header[start..self.at]);
        number
            .map(drop)
            .map_err(|_| self.wrong_at(start, "a number that fits a float"))
    }

    /// Checks that the header ends here.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the header")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.header.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn take_here(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        // Nearly every header has no space between its tokens.
        self.take_here(byte) || {
            self.space();
            self.take_here(byte)
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Error> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.wrong(expected)),
        }
    }

    fn literal(&mut self, literal: &str) -> bool {
        let is_there = self.header.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += if is_there { literal.len() } else { 0 };
        is_there
    }

    #[cold]
    fn wrong(&self, expected: &'static str) -> Error {
        self.wrong_at(self.at, expected)
    }

    #[cold]
    fn wrong_at(&self, at: usize, expected: &'static str) -> Error {
        let rest = self.header.get(at..).unwrap_or_default();
        Error::Syntax {
            at: at as u64,
            expected,
            found: rest.chars().next(),
        }
    }
}
