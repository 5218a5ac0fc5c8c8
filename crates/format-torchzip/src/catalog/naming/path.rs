//! Paths from the root to a tensor, as names.

use std::fmt::Write;

use crate::error::Error;
use crate::pickle::globals::Known;
use crate::pickle::{Id, Node, display_text, latin1_bytes};
use crate::state::decimal;
use crate::tensors::numpy::encoded_text;
use crate::tensors::rebuild::Objects;

use super::{Stop, Walk};

/// Nesting within a key that is written out.
const MAX_KEY_DEPTH: usize = 8;

/// # Paths
impl Walk<'_> {
    /// Puts a dot between what is there and a child of a container at this depth.
    fn push_dot(&mut self, depth: usize) {
        if depth > 0 || self.has_prefix {
            self.path.push('.');
        }
    }

    pub(super) fn push_segment(&mut self, segment: &str, depth: usize) {
        self.push_dot(depth);
        self.path.push_str(segment);
    }

    pub(super) fn push_position(&mut self, position: usize, depth: usize) {
        self.push_dot(depth);
        // Writing into a string cannot fail.
        let _ = write!(self.path, "{position}");
    }

    pub(super) fn push_key(&mut self, key: Id, depth: usize) {
        let ceiling = self.limits.name_bytes.saturating_add(1);
        let before = self.path.len();
        self.push_dot(depth);
        push_key_text(&self.objects, key, 0, ceiling, &mut self.path);
        self.spend_bytes(self.path.len() - before);
    }

    /// Cuts a path that is longer than names may be, and tells so.
    pub(super) fn check_length(&mut self, path_len: usize) -> bool {
        let overlong = self.path.len() > self.limits.name_bytes;
        if overlong {
            self.path.truncate(path_len);
        }
        overlong
    }

    pub(super) fn check_overlong(&self, overlong: bool) -> Result<(), Stop> {
        if overlong {
            return Err(Stop::Error(Error::Limit {
                what: "bytes of a tensor name",
                limit: self.limits.name_bytes as u64,
                found: self.limits.name_bytes as u64 + 1,
            }));
        }
        Ok(())
    }
}
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
        Node::Float(value) => write!(out, "{value:?}"),
        Node::Text(span) | Node::Bytes(span) | Node::Str8(span) => {
            let bytes = arena.bytes(pickle, span);
            let within = &bytes[..bytes.len().min(ceiling)];
            out.write_str(&display_text(within))
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
                Some(()) => out.write_str(&display_text(&bytes)),
                None => out.write_str(&display_text(within)),
            }
        }
        // A text of a class of its own, an enum's value: told apart by what they are made of.
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
