//! Texts of pickles: escapes of protocol 0, and UTF-8 that may hold lone surrogates.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether bytes are UTF-8 as Python's `surrogatepass` accepts it.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) => return true,
            Err(error) => {
                rest = &rest[error.valid_up_to()..];
                if !is_surrogate(rest) {
                    return false;
                }
                rest = &rest[3..];
            }
        }
    }
}

/// A text for people and names; a lone surrogate becomes its escape, `\udcxx`.
pub(crate) fn display_text(bytes: &[u8]) -> Cow<'_, str> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Cow::Borrowed(text),
        Err(error) => error,
    };
    let (mut text, mut rest, mut valid) = (String::new(), bytes, error.valid_up_to());
    loop {
        text.push_str(&String::from_utf8_lossy(&rest[..valid]));
        rest = &rest[valid..];
        if is_surrogate(rest) {
            let unit = 0xd000 | u16::from(rest[1] & 0x3f) << 6 | u16::from(rest[2] & 0x3f);
            // Writing into a string cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
            rest = &rest[3..];
        } else if let Some((byte, after)) = rest.split_first() {
            let _ = write!(text, "\\x{byte:02x}");
            rest = after;
        }
        valid = match std::str::from_utf8(rest) {
            Ok(_) if rest.is_empty() => return Cow::Owned(text),
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        if valid == rest.len() {
            text.push_str(&String::from_utf8_lossy(rest));
            return Cow::Owned(text);
        }
    }
}

/// The bytes of a `STRING` literal, quotes included.
pub(super) fn unquote(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let (&quote, rest) = line.split_first()?;
    let inner = rest
        .strip_suffix(&[quote])
        .filter(|_| matches!(quote, b'\'' | b'"'))?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let decoded = match rest.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            b'x' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            first @ b'0'..=b'7' => {
                let mut value = u32::from(first - b'0');
                let mut digits = rest.clone();
                for _ in 0..2 {
                    match digits.next() {
                        Some(digit @ b'0'..=b'7') => {
                            value = value * 8 + u32::from(digit - b'0');
                            rest = digits.clone();
                        }
                        _ => break,
                    }
                }
                value as u8
            }
            b'\n' => continue,
            quoted @ (b'\\' | b'\'' | b'"') => quoted,
            other => {
                bytes.push(b'\\');
                other
            }
        };
        bytes.push(decoded);
    }
    Some(bytes)
}

/// The UTF-8 (surrogates kept) of a `UNICODE` line: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                push_code_point(&mut text, u32::from(byte))?;
                at += 1;
                continue;
            }
        };
        let mut code = 0u32;
        for &digit in line.get(at + 2..at + 2 + digits)? {
            code = code << 4 | u32::from(hex_digit(digit)?);
        }
        push_code_point(&mut text, code)?;
        at += 2 + digits;
    }
    Some(text)
}

/// Undoes `str.encode("latin1")` in reverse: the bytes whose Latin-1 reading is this text.
pub(crate) fn latin1_bytes(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    for character in text.chars() {
        out.push(u8::try_from(u32::from(character)).ok()?);
    }
    Some(())
}

fn push_code_point(text: &mut Vec<u8>, code: u32) -> Option<()> {
    match char::from_u32(code) {
        Some(character) => {
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        None if code <= 0xffff => {
            // A lone surrogate, in the form that `surrogatepass` writes.
            text.extend([
                0xe0 | (code >> 12) as u8,
                0x80 | (code >> 6 & 0x3f) as u8,
                0x80 | (code & 0x3f) as u8,
            ]);
        }
        None => return None,
    }
    Some(())
}

fn is_surrogate(bytes: &[u8]) -> bool {
    matches!(bytes, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..])
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_text() {
        assert!(is_text(b"a\xed\xb2\x80b"));
        assert!(!is_text(b"a\xffb"));
        assert!(!is_text(b"a\xed\xb2"));
        assert_eq!(display_text(b"a\xed\xb2\x80b"), "a\\udc80b");
        assert_eq!(display_text(b"\xed\xb2\x80\xed\xb2\x80"), "\\udc80\\udc80");
        assert_eq!(display_text(b"\xffa"), "\\xffa");
        assert_eq!(display_text("é".as_bytes()), "é");
    }

    #[test]
    fn string_literals() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"'abc'", b"abc"),
            (b"\"it's\"", b"it's"),
            (b"'\\x41\\n\\\\'", b"A\n\\"),
            (b"'\\101\\0z'", b"A\0z"),
            (b"'\\q'", b"\\q"),
            (b"''", b""),
        ];
        for (line, expected) in cases {
            assert_eq!(unquote(line).unwrap(), expected, "{}", line.escape_ascii());
        }
        for line in [&b"'abc"[..], b"abc", b"", b"'", b"'\\x4'", b"'\\'"] {
            assert_eq!(unquote(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unicode_lines() {
        assert_eq!(
            raw_unicode_escape(b"a\\u00e9\xe9").unwrap(),
            "aéé".as_bytes()
        );
        assert_eq!(raw_unicode_escape(b"\\U0001f600").unwrap(), "😀".as_bytes());
        assert_eq!(raw_unicode_escape(b"\\udc80").unwrap(), b"\xed\xb2\x80");
        assert_eq!(raw_unicode_escape(b"\\u12"), None);
        assert_eq!(raw_unicode_escape(b"\\UFFFFFFFF"), None);
    }

    #[test]
    fn latin1() {
        let mut bytes = Vec::new();
        latin1_bytes("a\u{ff}".as_bytes(), &mut bytes).unwrap();
        assert_eq!(bytes, b"a\xff");
        assert_eq!(latin1_bytes("€".as_bytes(), &mut bytes), None);
    }
}
