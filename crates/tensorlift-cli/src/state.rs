//! What a PyTorch file holds beside tensors, for people and for programs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value as Json, json};
use tensorlift::Value;
use tensorlift::state::HashableValue;

/// The indentation of one level.
const INDENT: &str = "  ";
/// Items of a container that people are shown.
const SHOWN_ITEMS: usize = 100;
/// Characters of a text and bytes of a byte string that people are shown.
const SHOWN_TEXT: usize = 200;

/// Writes a value with an item a line.
pub(crate) fn write_readable(out: &mut impl Write, value: &Value) -> io::Result<()> {
    write_json(out, &shortened(value), 0)?;
    writeln!(out)
}

/// A value as JSON: byte strings as hexadecimal text, keys that are not text as their text,
/// distinguished by `#2` and so on, numbers that JSON lacks as their names.
///
/// It is written as it is visited, since a second copy of a large state may not fit in memory.
pub(crate) struct Plain<'a>(pub(crate) &'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::None => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::Int(value) => serializer.collect_str(value),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F64(value) => serializer.collect_str(value),
            Value::Bytes(bytes) => serializer.serialize_str(&hex(bytes)),
            Value::String(text) => serializer.serialize_str(text),
            Value::List(items) | Value::Tuple(items) => {
                serializer.collect_seq(items.iter().map(Plain))
            }
            Value::Set(items) | Value::FrozenSet(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&Plain(&item.clone().into_value()))?;
                }
                seq.end()
            }
            Value::Dict(pairs) => {
                let mut keys = Keys::of(pairs);
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(&keys.text(key), &Plain(value))?;
                }
                map.end()
            }
        }
    }
}

/// The texts of a dict's keys. Keys that are texts keep theirs; others get the first free number
/// where it is taken, as `1` does beside `'1'`.
struct Keys<'a> {
    pairs: &'a BTreeMap<HashableValue, Value>,
    /// Texts for keys that are not text.
    given: HashSet<String>,
}

impl<'a> Keys<'a> {
    fn of(pairs: &'a BTreeMap<HashableValue, Value>) -> Self {
        let given = HashSet::new();
        Self { pairs, given }
    }

    fn text<'k>(&mut self, key: &'k HashableValue) -> Cow<'k, str> {
        let key = match key {
            HashableValue::String(text) => return Cow::Borrowed(text),
            other => other.clone().into_value(),
        };
        let plain = match json!(Plain(&key)) {
            Json::String(text) => text,
            json => json.to_string(),
        };
        let mut text = plain.clone();
        let mut number = 1;
        while self.given.contains(&text)
            || self
                .pairs
                .contains_key(&HashableValue::String(text.clone()))
        {
            number += 1;
            text = format!("{plain}#{number}");
        }
        self.given.insert(text.clone());
        Cow::Owned(text)
    }
}

/// The value as JSON with long texts and containers cut, for people.
fn shortened(value: &Value) -> Json {
    match value {
        Value::List(items) | Value::Tuple(items) => {
            shortened_list(items.len(), items.iter().map(shortened))
        }
        Value::Set(items) | Value::FrozenSet(items) => {
            let shown = items.iter().map(|item| item.clone().into_value());
            shortened_list(items.len(), shown.map(|item| shortened(&item)))
        }
        Value::Dict(pairs) => {
            let mut keys = Keys::of(pairs);
            let shown = pairs.iter().take(SHOWN_ITEMS);
            let mut shown: Map<String, Json> = shown
                .map(|(key, value)| (keys.text(key).into_owned(), shortened(value)))
                .collect();
            if pairs.len() > SHOWN_ITEMS {
                shown.insert("…".into(), json!(more(pairs.len())));
            }
            Json::Object(shown)
        }
        leaf => match json!(Plain(leaf)) {
            Json::String(text) if text.chars().count() > SHOWN_TEXT => {
                let cut: String = text.chars().take(SHOWN_TEXT).collect();
                json!(format!("{cut}…"))
            }
            json => json,
        },
    }
}

/// The first items of a container; later ones are not built.
fn shortened_list(count: usize, items: impl Iterator<Item = Json>) -> Json {
    let mut shown: Vec<Json> = items.take(SHOWN_ITEMS).collect();
    if count > SHOWN_ITEMS {
        shown.push(json!(more(count)));
    }
    Json::Array(shown)
}

/// The text in place of items that are not shown.
fn more(count: usize) -> String {
    format!("… {} more", count - SHOWN_ITEMS)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_json(out: &mut impl Write, json: &Json, depth: usize) -> io::Result<()> {
    let indent = INDENT.repeat(depth);
    match json {
        Json::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for item in items {
                write!(out, "\n{indent}-")?;
                write_item(out, item, depth)?;
            }
            Ok(())
        }
        Json::Object(pairs) if !pairs.is_empty() => {
            for (index, (key, value)) in pairs.iter().enumerate() {
                let line = if index == 0 && depth == 0 { "" } else { "\n" };
                write!(out, "{line}{indent}{}:", crate::table::printable(key))?;
                write_item(out, value, depth)?;
            }
            Ok(())
        }
        other => write!(out, "{other}"),
    }
}

/// A value behind its key or dash: on the same line, or beneath, one level in.
fn write_item(out: &mut impl Write, value: &Json, depth: usize) -> io::Result<()> {
    let is_leaf = match value {
        Json::Array(items) => !items.iter().any(|item| item.is_object() || item.is_array()),
        Json::Object(pairs) => pairs.is_empty(),
        _ => true,
    };
    if is_leaf {
        write!(out, " ")?;
    }
    write_json(out, value, depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_json_without_loss_of_keys() {
        let pairs = [
            (HashableValue::I64(1), Value::Bytes(vec![0, 255])),
            (HashableValue::String("1".into()), Value::I64(5)),
            (HashableValue::String("nan".into()), Value::F64(f64::NAN)),
            (HashableValue::None, Value::Tuple(vec![Value::Bool(true)])),
        ];
        let value = Value::Dict(pairs.into_iter().collect());
        let json = json!(Plain(&value));
        assert_eq!(
            json,
            json!({"1": 5, "1#2": "00ff", "nan": "NaN", "null": [true]})
        );
    }

    #[test]
    fn people_see_an_item_a_line() {
        let value = Value::Dict(
            [
                (HashableValue::String("epoch".into()), Value::I64(3)),
                (
                    HashableValue::String("groups".into()),
                    Value::List(vec![Value::Dict(
                        [(HashableValue::String("lr".into()), Value::F64(0.5))].into(),
                    )]),
                ),
            ]
            .into(),
        );
        let mut out = Vec::new();
        write_readable(&mut out, &value).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "epoch: 3\ngroups:\n  -\n    lr: 0.5\n"
        );
    }
}
