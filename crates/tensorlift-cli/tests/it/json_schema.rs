//! As much of JSON Schema as the committed schemas use: a keyword beside these fails the test.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Keywords that say nothing of a value.
const WORDS: [&str; 7] = [
    "$schema",
    "$id",
    "$defs",
    "title",
    "description",
    "default",
    "format",
];

/// Whether a value is what a schema says and has no field that the schema does not name; the error
/// says what is not.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    whole(schema, schema, value, "the value")
}

/// A value with nothing around it: fields that nothing names are faults.
fn whole(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let named = part(root, schema, value, at)?;
    let fields = value.as_object().into_iter().flat_map(Map::keys);
    match fields.into_iter().find(|field| !named.contains(*field)) {
        Some(field) => Err(format!("{at} has a field {field:?} that no schema names")),
        None => Ok(()),
    }
}

/// The fields that a schema names, if the value is what it says.
fn part(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<BTreeSet<String>, String> {
    let mut named = BTreeSet::new();
    let keywords = match schema {
        Value::Bool(true) => return Ok(all_of(value)),
        Value::Object(keywords) => keywords,
        other => panic!("no schema: {other}"),
    };
    let fail = |what: &str| Err(format!("{at} is {value}, expected {what}"));
    for (keyword, says) in keywords {
        let is_met = match keyword.as_str() {
            word if WORDS.contains(&word) => true,
            "$ref" => {
                let pointer = says.as_str().unwrap().strip_prefix('#').unwrap();
                let referred = root.pointer(pointer).unwrap();
                named.extend(part(root, referred, value, at)?);
                true
            }
            "type" => match says {
                Value::Array(types) => types.iter().any(|name| is_of(value, name)),
                name => is_of(value, name),
            },
            "const" => value == says,
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= says.as_f64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= count(says)),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= count(says)),
            "pattern" => matches(says.as_str().unwrap(), value.as_str().unwrap_or_default()),
            "required" => says.as_array().unwrap().iter().all(|field| {
                let field = field.as_str().unwrap();
                value.get(field).is_some()
            }),
            "items" => {
                let items = value.as_array().into_iter().flatten();
                for (index, item) in items.enumerate() {
                    whole(root, says, item, &format!("{at}[{index}]"))?;
                }
                true
            }
            "properties" => {
                for (field, schema) in says.as_object().unwrap() {
                    named.insert(field.clone());
                    if let Some(value) = value.get(field) {
                        whole(root, schema, value, &format!("{at}.{field}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let own = keywords.get("properties").and_then(Value::as_object);
                let is_own = |field: &String| own.is_some_and(|own| own.contains_key(field));
                let fields = value.as_object().into_iter().flatten();
                for (field, value) in fields.filter(|(field, _)| !is_own(field)) {
                    if *says == Value::Bool(false) {
                        return fail(&format!("no field {field:?}"));
                    }
                    whole(root, says, value, &format!("{at}.{field}"))?;
                    named.insert(field.clone());
                }
                true
            }
            "allOf" => {
                for schema in says.as_array().unwrap() {
                    named.extend(part(root, schema, value, at)?);
                }
                true
            }
            "oneOf" | "anyOf" => {
                let choices = says.as_array().unwrap().iter();
                let met: Vec<_> = choices.map(|it| part(root, it, value, at)).collect();
                let count = met.iter().filter(|it| it.is_ok()).count();
                if count == 0 {
                    let why: Vec<String> = met.into_iter().filter_map(Result::err).collect();
                    return Err(why.join("; or "));
                }
                named.extend(met.into_iter().flatten().flatten());
                count == 1 || keyword == "anyOf"
            }
            other => panic!("{other} is not known here"),
        };
        if !is_met {
            return fail(&format!("{keyword} {says}"));
        }
    }
    Ok(named)
}

fn all_of(value: &Value) -> BTreeSet<String> {
    let fields = value.as_object().into_iter().flat_map(Map::keys);
    fields.cloned().collect()
}

fn count(says: &Value) -> u64 {
    says.as_u64().unwrap()
}

fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let is_of = |of: fn(&char) -> bool| !text.is_empty() && text.chars().all(|it| of(&it));
    match pattern {
        "^[0-9a-f]+$" => is_of(|it| it.is_ascii_digit() || ('a'..='f').contains(it)),
        "^([0-9]+|cpu)$" => text == "cpu" || is_of(char::is_ascii_digit),
        other => panic!("{other} is not known here"),
    }
}
