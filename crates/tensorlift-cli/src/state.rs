//! What a PyTorch file holds beside tensors, for people and for programs.

use std::io::{self, Write};

use serde_json::{Map, Number, Value as Json, json};
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
    write_json(out, &shortened(to_json(value)), 0)?;
    writeln!(out)
}

/// The value as JSON: byte strings as hexadecimal text, keys that are no text as their text, kept
/// apart by `#2` and so on, numbers that JSON lacks as their names.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::Int(value) => json!(value.to_string()),
        Value::F64(value) => {
            Number::from_f64(*value).map_or_else(|| json!(value.to_string()), Json::Number)
        }
        Value::Bytes(bytes) => json!(hex(bytes)),
        Value::String(text) => json!(text),
        Value::List(items) | Value::Tuple(items) => {
            Json::Array(items.iter().map(to_json).collect())
        }
        Value::Set(items) | Value::FrozenSet(items) => Json::Array(
            items
                .iter()
                .map(|item| to_json(&item.clone().into_value()))
                .collect(),
        ),
        Value::Dict(pairs) => {
            let mut map = Map::new();
            for (key, value) in pairs {
                map.insert(free_key(key_text(key), &map), to_json(value));
            }
            Json::Object(map)
        }
    }
}

/// The text of a key, with the first free number where another key has it, as `1` and `'1'` do.
fn free_key(text: String, map: &Map<String, Json>) -> String {
    if !map.contains_key(&text) {
        return text;
    }
    let numbered = (2..).map(|number| format!("{text}#{number}"));
    let mut free = numbered.filter(|key| !map.contains_key(key));
    free.next().unwrap_or(text)
}

fn key_text(key: &HashableValue) -> String {
    match key {
        HashableValue::String(text) => text.clone(),
        other => match to_json(&other.clone().into_value()) {
            Json::String(text) => text,
            json => json.to_string(),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Long texts and containers, cut for people.
fn shortened(json: Json) -> Json {
    let more = |count: usize| format!("… {count} more");
    match json {
        Json::String(text) if text.chars().count() > SHOWN_TEXT => {
            let cut: String = text.chars().take(SHOWN_TEXT).collect();
            json!(format!("{cut}…"))
        }
        Json::Array(items) => {
            let left = items.len().saturating_sub(SHOWN_ITEMS);
            let mut shown: Vec<Json> = items.into_iter().take(SHOWN_ITEMS).map(shortened).collect();
            if left > 0 {
                shown.push(json!(more(left)));
            }
            Json::Array(shown)
        }
        Json::Object(pairs) => {
            let left = pairs.len().saturating_sub(SHOWN_ITEMS);
            let shown = pairs.into_iter().take(SHOWN_ITEMS);
            let mut shown: Map<String, Json> =
                shown.map(|(key, value)| (key, shortened(value))).collect();
            if left > 0 {
                shown.insert("…".into(), json!(more(left)));
            }
            Json::Object(shown)
        }
        other => other,
    }
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
        let json = to_json(&Value::Dict(pairs.into_iter().collect()));
        assert_eq!(
            json,
            json!({"1": "00ff", "1#2": 5, "nan": "NaN", "null": [true]})
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
