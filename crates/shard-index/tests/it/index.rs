use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use tensorlift_shard_index::{Index, IndexError};
use tensorlift_tensor_meta::Limits;

/// Name and shard, in the order of the file.
type Listed = Vec<(String, String)>;

fn listed(index: &Index) -> Listed {
    let shard = |shard: usize| index.shards()[shard].to_string();
    let pairs = index
        .iter()
        .map(|(name, id)| (name.to_owned(), shard(id.index())));
    pairs.collect()
}

fn write(listed: &Listed) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let pairs: Vec<_> = listed
        .iter()
        .map(|(k, v)| format!("{}: {}", quoted(k), quoted(v)))
        .collect();
    format!(
        "{{\"metadata\": {{\"total_size\": 1}}, \"weight_map\": {{{}}}}}\n",
        pairs.join(", ")
    )
}

fn lists() -> impl Strategy<Value = Listed> {
    let shard = prop_oneof!["[a-c]", "[a-c]/[a-z]{1,3}\\.bin"];
    let names = proptest::collection::btree_map(any::<String>(), shard, 1..40);
    names
        .prop_map(|names| names.into_iter().collect::<Listed>())
        .prop_shuffle()
}

/// The naive twin: what serde_json makes of the file, without order.
fn twin(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let map = json.get("weight_map")?.as_object()?;
    map.iter()
        .map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

/// Whatever is accepted is what the twin sees, and found by name.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(index) = Index::parse(bytes, &Limits::default()) else {
        return Ok(());
    };
    let listed = listed(&index);
    for ((name, shard), (_, id)) in listed.iter().zip(index.iter()) {
        prop_assert_eq!(index.shard_of(name), Some(id));
        prop_assert!(!shard.starts_with('/') && !shard.contains('\\'));
        prop_assert!(
            shard
                .split('/')
                .all(|component| !["", ".", ".."].contains(&component))
        );
    }
    let count = listed.len();
    let map: BTreeMap<_, _> = listed.into_iter().collect();
    prop_assert_eq!(map.len(), count);
    prop_assert_eq!(Some(map), twin(bytes));
    Ok(())
}

proptest! {
    #[test]
    fn any_list_is_read_back(list in lists()) {
        let text = write(&list);
        let index = Index::parse(text.as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(listed(&index), list);
    }

    #[test]
    fn any_bytes_are_an_error_or_what_the_twin_sees(bytes in any::<Vec<u8>>()) {
        check(&bytes)?;
    }

    #[test]
    fn any_truncation_is_an_error_or_equal(list in lists(), at in any::<prop::sample::Index>()) {
        let text = write(&list);
        let whole = Index::parse(text.as_bytes(), &Limits::default()).unwrap();
        let cut = &text.as_bytes()[..at.index(text.len())];
        match Index::parse(cut, &Limits::default()) {
            Ok(index) => prop_assert_eq!(index, whole),
            Err(error) => {
                let cut_short = matches!(error, IndexError::Json(_) | IndexError::NotUtf8(_));
                prop_assert!(cut_short, "{}", error);
            }
        }
    }

    #[test]
    fn any_flip_is_an_error_or_what_the_twin_sees(
        list in lists(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = write(&list).into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes)?;
    }

    #[test]
    fn pieces_of_json_are_an_error_or_what_the_twin_sees(
        pieces in proptest::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"weight_map\"", "\"metadata\"", "\"total_size\"",
                "\"a\"", "\"b\"", "1", "-1.5e3", "null", "true", "{\"weight_map\":{\"a\":\"b\"",
                "{\"metadata\":{", "\"..\"", " ",
            ]),
            0..12,
        ),
    ) {
        check(pieces.concat().as_bytes())?;
    }
}

#[test]
fn a_hundred_thousand_tensors_keep_their_order() {
    let list: Listed = (0..100_000)
        .map(|n| {
            (
                format!("model.layers.{n}.weight"),
                format!("model-{:05}-of-01000.safetensors", n / 100),
            )
        })
        .collect();
    let index = Index::parse(write(&list).as_bytes(), &Limits::default()).unwrap();
    assert_eq!(listed(&index), list);
    assert_eq!(index.shards().len(), 1000);
}

#[test]
fn text_that_is_skipped_is_text_all_the_same() {
    let mut bytes = br#"{"weight_map": {"a": "b"}, "note": "?"}"#.to_vec();
    let place = bytes.iter().position(|&byte| byte == b'?').unwrap();
    assert!(Index::parse(&bytes, &Limits::default()).is_ok());
    bytes[place] = 0x80;
    let error = Index::parse(&bytes, &Limits::default()).unwrap_err();
    assert!(matches!(error, IndexError::NotUtf8(_)), "{error}");
}
