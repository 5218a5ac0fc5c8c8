//! Keys and numbers as Python prints them.

use std::fmt::Write;

use num_bigint::BigInt;

use crate::pickle::globals::Known;
use crate::pickle::{Id, Node, display_text, latin1_bytes};

use super::numpy::encoded_text;
use super::objects::Objects;

/// The nesting of a key that is written out.
const MAX_KEY_DEPTH: usize = 8;

/// Writes a key as a part of a name: texts as they are, others as Python shows them.
pub(crate) fn push_key_text(
    objects: &Objects<'_>,
    key: Id,
    depth: usize,
    ceiling: usize,
    out: &mut String,
) {
    if out.len() > ceiling {
        return;
    }
    let Objects { arena, pickle } = *objects;
    // Writing into a string cannot fail.
    let _ = match arena.node(key) {
        Node::None => out.write_str("None"),
        Node::Bool(true) => out.write_str("True"),
        Node::Bool(false) => out.write_str("False"),
        Node::Int(value) => write!(out, "{value}"),
        Node::Float(value) => {
            push_float(value, out);
            Ok(())
        }
        Node::Text(span) | Node::Str8(span) => {
            let bytes = arena.bytes(pickle, span);
            let within = &bytes[..bytes.len().min(ceiling)];
            out.write_str(&display_text(within))
        }
        Node::Bytes(span) => {
            push_bytes(arena.bytes(pickle, span), ceiling, out);
            Ok(())
        }
        Node::BigInt(_) | Node::BigText(_) => {
            out.write_str(&decimal(objects, key).unwrap_or_default())
        }
        // Few keys are nested, and none deeply.
        Node::Tuple { start, len } if depth < MAX_KEY_DEPTH => {
            out.push('(');
            push_key_texts(objects, arena.members(start, len), depth, ceiling, out);
            out.write_str(if len == 1 { ",)" } else { ")" })
        }
        Node::Set(seq) if depth < MAX_KEY_DEPTH => {
            out.push_str("frozenset({");
            push_key_texts(objects, arena.seq(seq), depth, ceiling, out);
            out.write_str("})")
        }
        Node::Global(number) => out.write_str(&arena.global_at(number).path()),
        // Bytes, as protocols before 3 write them.
        Node::Object(_) if matches!(arena.as_object(key), Some((_, Known::Encode))) => {
            let text = encoded_text(objects, key);
            let text = text.and_then(|text| arena.string_bytes(pickle, text));
            let mut bytes = Vec::new();
            let within = text.map_or(&[][..], |text| &text[..text.len().min(2 * ceiling)]);
            match latin1_bytes(within, &mut bytes) {
                Some(()) => push_bytes(&bytes, ceiling, out),
                None => out.push_str(&display_text(within)),
            }
            Ok(())
        }
        // A subclass of text, or an enum's value: distinguished by their arguments.
        Node::Object(number) if depth < MAX_KEY_DEPTH => {
            let args = arena.tuple_items(arena.object_at(number).args);
            out.push_str(&arena.type_name(key));
            out.push('(');
            push_key_texts(objects, args.unwrap_or(&[]), depth, ceiling, out);
            out.write_str(")")
        }
        _ => out.write_str(&arena.type_name(key)),
    };
}

/// Writes the parts of a key with commas between them.
fn push_key_texts(
    objects: &Objects<'_>,
    parts: &[Id],
    depth: usize,
    ceiling: usize,
    out: &mut String,
) {
    for (position, &part) in parts.iter().enumerate() {
        if out.len() > ceiling {
            return;
        }
        if position > 0 {
            out.push_str(", ");
        }
        push_key_text(objects, part, depth + 1, ceiling, out);
    }
}

/// Writes a float as Python prints it: with an exponent below 1e-4 and from 1e16 on.
fn push_float(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("nan");
    }
    let scientific = format!("{value:e}");
    // Writing into a string cannot fail.
    let _ = match scientific.split_once('e').map(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().unwrap_or(0);
        (digits, exponent)
    }) {
        Some((digits, exponent @ (..-4 | 16..))) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => write!(out, "{value:?}"),
    };
}

/// Writes bytes as Python prints them, so that `b'a'` and `'a'` are told apart.
fn push_bytes(bytes: &[u8], ceiling: usize, out: &mut String) {
    let within = &bytes[..bytes.len().min(ceiling)];
    let quote = match within.contains(&b'\'') && !within.contains(&b'"') {
        true => '"',
        false => '\'',
    };
    out.push('b');
    out.push(quote);
    for &byte in within {
        // Writing into a string cannot fail.
        let _ = match byte {
            b'\\' => out.write_str("\\\\"),
            b'\t' => out.write_str("\\t"),
            b'\n' => out.write_str("\\n"),
            b'\r' => out.write_str("\\r"),
            byte if char::from(byte) == quote => write!(out, "\\{quote}"),
            b' '..=b'~' => out.write_char(byte.into()),
            byte => write!(out, "\\x{byte:02x}"),
        };
    }
    out.push(quote);
}

/// The decimal digits of an integer of any size.
pub(crate) fn decimal(objects: &Objects<'_>, id: Id) -> Option<String> {
    match objects.arena.node(id) {
        Node::Int(value) => Some(value.to_string()),
        Node::BigInt(span) => {
            let bytes = objects.arena.bytes(objects.pickle, span);
            Some(BigInt::from_signed_bytes_le(bytes).to_string())
        }
        Node::BigText(span) => {
            let bytes = objects.arena.bytes(objects.pickle, span);
            Some(display_text(bytes).trim_start_matches('+').to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_printed_as_python_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e300, "-1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            let mut out = String::new();
            push_float(value, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn bytes_are_printed_as_python_prints_them() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "b''"),
            (b"0", "b'0'"),
            (b"it's", "b\"it's\""),
            (b"'\"", "b'\\'\"'"),
            (b"\\\n\0\xff", "b'\\\\\\n\\x00\\xff'"),
            (b"a b", "b'a b'"),
        ];
        for (bytes, expected) in cases {
            let mut out = String::new();
            push_bytes(bytes, 64, &mut out);
            assert_eq!(out, expected);
        }
    }
}
