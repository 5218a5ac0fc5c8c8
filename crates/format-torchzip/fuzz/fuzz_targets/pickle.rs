//! Arbitrary bytes as a pickle alone. Where `serde_pickle` reads it too, the values are equal.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_pickle::{DeOptions, HashableValue, Value};
use tensorlift_format_torchzip::{Format, TorchFile};
use tensorlift_format_torchzip_fuzz::{check, is_any};

/// Longer pickles could nest deeper than `serde_pickle` can recurse.
const MAX_COMPARED: usize = 2048;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if !is_any(bytes, &[Format::Pickle]) {
        return Corpus::Reject;
    }
    if let Ok(file) = check(bytes) {
        equals_serde_pickle(bytes, &file);
    }
    Corpus::Keep
});

fn equals_serde_pickle(bytes: &[u8], file: &TorchFile) {
    let Ok(ours) = file.state() else { return };
    let mut nodes = 0;
    if bytes.len() > MAX_COMPARED || !is_plain(&ours, &mut nodes) {
        return;
    }
    let options = DeOptions::new().decode_strings();
    if let Ok(theirs) = serde_pickle::value_from_slice(bytes, options) {
        let theirs = as_ours(theirs);
        // By their texts, since no number that is none equals itself.
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}

/// Whether a value has no form of our own and is small.
fn is_plain(value: &Value, nodes: &mut usize) -> bool {
    *nodes += 1;
    let plain_key = |key: &HashableValue| match key {
        HashableValue::String(text) => !text.starts_with('$'),
        _ => true,
    };
    *nodes < 10_000
        && match value {
            Value::List(items) | Value::Tuple(items) => {
                items.iter().all(|item| is_plain(item, nodes))
            }
            Value::Dict(pairs) => pairs
                .iter()
                .all(|(key, value)| plain_key(key) && is_plain(value, nodes)),
            _ => true,
        }
}

/// Integers beyond 64 bits as decimal text.
fn as_ours(value: Value) -> Value {
    match value {
        Value::Int(number) => Value::String(number.to_string()),
        Value::List(items) => Value::List(items.into_iter().map(as_ours).collect()),
        Value::Tuple(items) => Value::Tuple(items.into_iter().map(as_ours).collect()),
        Value::Dict(pairs) => {
            let pairs = pairs.into_iter();
            Value::Dict(
                pairs
                    .map(|(key, value)| (hashable_as_ours(key), as_ours(value)))
                    .collect(),
            )
        }
        Value::Set(items) => Value::Set(items.into_iter().map(hashable_as_ours).collect()),
        Value::FrozenSet(items) => Value::Set(items.into_iter().map(hashable_as_ours).collect()),
        other => other,
    }
}

fn hashable_as_ours(key: HashableValue) -> HashableValue {
    match key {
        HashableValue::Int(number) => HashableValue::String(number.to_string()),
        HashableValue::Tuple(items) => {
            HashableValue::Tuple(items.into_iter().map(hashable_as_ours).collect())
        }
        HashableValue::FrozenSet(items) => {
            HashableValue::FrozenSet(items.into_iter().map(hashable_as_ours).collect())
        }
        other => other,
    }
}
