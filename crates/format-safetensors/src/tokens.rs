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
    pub(crate) fn text(&mut self) -> Result<Cow<'h, str>, Error> {
        self.expect(b'"', "a text")?;
        let (header, start) = (self.header, self.at);
        let bytes = &header.as_bytes()[start..];
        let mut end = memchr::memchr(b'"', bytes).unwrap_or(bytes.len());
        let mut has_escapes = false;
        if !self.is_plain {
            end = 0;
            loop {
                match bytes.get(end) {
                    Some(b'"') | None => break,
                    Some(b'\\') => {
                        has_escapes = true;
                        end = (end + 2).min(bytes.len());
                    }
                    Some(0..b' ') => {
                        self.at += end;
                        return Err(self.wrong("a control character in its escaped form"));
                    }
                    Some(_) => end += 1,
                }
            }
        }
        self.at += end;
        if !self.take_here(b'"') {
            return Err(self.wrong("the end of a text"));
        }
        if !has_escapes {
            return Ok(Cow::Borrowed(&header[start..start + end]));
        }
        serde_json::from_str(&header[start - 1..self.at])
            .map(Cow::Owned)
            .map_err(|_| self.wrong_at(start - 1, "a text whose escapes are characters"))
    }

    /// Reads a whole number.
    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        const EXPECTED: &str = "a whole number below 2^64";
        self.space();
        let start = self.at;
        let mut number = Some(0u64);
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            let digit = u64::from(digit - b'0');
            number = number.and_then(|number| number.checked_mul(10)?.checked_add(digit));
            self.at += 1;
        }
        let digits = &self.header.as_bytes()[start..self.at];
        match (digits, number) {
            // JSON has no leading zeros.
            ([] | [b'0', _, ..], _) | (_, None) => Err(self.wrong_at(start, EXPECTED)),
            (_, Some(number)) => Ok(number),
        }
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
        self.space();
        self.take_here(byte)
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
