//! Reading an index file.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use tensorlift_tensor_meta::Limits;

use super::draft::{Draft, within};
use super::metadata::Metadata;
use super::{Index, IndexError};

pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Index, IndexError> {
    // Ends of names are stored in 32 bits.
    let limit = limits.header_bytes.min(u64::from(u32::MAX));
    within("bytes of an index file", bytes.len() as u64, limit)?;
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(IndexError::LfsPointer);
    }
    // Skipped parts must be UTF-8 too.
    let text = std::str::from_utf8(bytes)?;
    let mut draft = Draft::new(bytes.len(), limits)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json
        .deserialize_map(Root(&mut draft))
        .and_then(|()| json.end());
    // serde's error says less than ours, which caused it.
    if let Some(fault) = draft.fault.take() {
        return Err(fault);
    }
    read.map_err(|error| IndexError::Json(error.to_string()))?;
    draft.finish()
}

/// The whole file.
struct Root<'d, 'l>(&'d mut Draft<'l>);

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a \"weight_map\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<RootKey>()? {
            let draft = &mut *self.0;
            match key {
                RootKey::WeightMap => {
                    let again = std::mem::replace(&mut draft.weight_map, true);
                    draft.keep(once(again, "weight_map"))?;
                    map.next_value_seed(WeightMap(draft))?;
                }
                RootKey::Metadata => {
                    let again = draft.metadata.is_some();
                    draft.keep(once(again, "metadata"))?;
                    map.next_value_seed(Metadata(draft))?;
                }
                RootKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn once(again: bool, key: &str) -> Result<(), IndexError> {
    if again {
        return Err(IndexError::DuplicateKey(key.to_owned()));
    }
    Ok(())
}

enum RootKey {
    WeightMap,
    Metadata,
    Other,
}

impl<'de> serde::Deserialize<'de> for RootKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = RootKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<RootKey, E> {
                Ok(match key {
                    "weight_map" => RootKey::WeightMap,
                    "metadata" => RootKey::Metadata,
                    _ => RootKey::Other,
                })
            }
        }
        deserializer.deserialize_str(Key)
    }
}

/// Tensor names and shard names, taken straight from the file's bytes.
struct WeightMap<'d, 'l>(&'d mut Draft<'l>);

impl<'de> DeserializeSeed<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let draft = self.0;
        while map
            .next_key_seed(Text(draft, "a tensor name", Draft::tensor))?
            .is_some()
        {
            map.next_value_seed(Text(draft, "a file name", Draft::shard))?;
        }
        Ok(())
    }
}

/// A string that goes into the draft without an allocation of its own.
struct Text<'d, 'l>(
    &'d mut Draft<'l>,
    &'static str,
    fn(&mut Draft<'l>, &str) -> Result<(), IndexError>,
);

impl<'de> DeserializeSeed<'de> for Text<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let Text(draft, _, take) = self;
        let taken = take(draft, text);
        draft.keep(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorlift_tensor_meta::ShardId;

    fn read(text: &str) -> Result<Index, IndexError> {
        parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn order_and_shards_are_those_of_the_file() {
        let index = read(
            r#"{"other": [[{}]], "weight_map": {"z": "b", "a": "a", "m": "b", "\u00e9\n": "sub/c"},
                "metadata": {"total_size": 12, "by": "x", "deep": {"a": [1]}, "none": null}}"#,
        )
        .unwrap();
        let listed: Vec<_> = index.iter().collect();
        let expected = [("z", 0), ("a", 1), ("m", 0), ("é\n", 2)];
        assert_eq!(listed, expected.map(|(name, shard)| (name, ShardId(shard))));
        assert_eq!(
            index.shards().iter().map(|s| &**s).collect::<Vec<_>>(),
            ["b", "a", "sub/c"]
        );
        assert_eq!(index.shard_of("é\n"), Some(ShardId(2)));
        assert_eq!(index.shard_of(""), None);
        assert_eq!(index.total_size(), Some(12));
        let metadata: Vec<_> = index.metadata().iter().collect();
        assert_eq!(
            format!("{metadata:?}"),
            r#"[("by", "x"), ("total_size", "12")]"#
        );
    }

    #[test]
    fn total_size_may_be_a_float_or_nonsense() {
        let sized = |value: &str| {
            read(&format!(
                r#"{{"metadata":{{"total_size":{value}}},"weight_map":{{"a":"b"}}}}"#
            ))
            .unwrap()
            .total_size()
        };
        assert_eq!(sized("5132190720.0"), Some(5_132_190_720));
        assert_eq!(sized("1.5"), None);
        assert_eq!(sized("-1"), None);
        assert_eq!(sized("1e300"), None);
        assert_eq!(sized("\"12\""), None);
        assert_eq!(sized("[12]"), None);
    }

    #[test]
    fn all_repeated_tensors_are_named() {
        let error = read(r#"{"weight_map":{"a":"x","b":"x","a":"x","b":"y","b":"z"}}"#);
        let Err(IndexError::DuplicateNames(names)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn all_bad_shard_names_are_named() {
        let error = read(r#"{"weight_map":{"a":"../x","b":"ok","c":"/y","d":"../x"}}"#);
        let Err(IndexError::ShardNames(bad)) = error else {
            panic!("{error:?}");
        };
        let names: Vec<_> = bad.iter().map(|bad| bad.name.as_str()).collect();
        assert_eq!(names, ["../x", "/y"]);
    }

    #[test]
    fn repeated_keys_are_refused() {
        for (text, key) in [
            (
                r#"{"weight_map":{"a":"x"},"weight_map":{"a":"y"}}"#,
                "weight_map",
            ),
            (
                r#"{"metadata":{},"metadata":{},"weight_map":{"a":"y"}}"#,
                "metadata",
            ),
            (
                r#"{"metadata":null,"metadata":{},"weight_map":{"a":"y"}}"#,
                "metadata",
            ),
            (r#"{"metadata":{"b":1,"b":[]},"weight_map":{"a":"y"}}"#, "b"),
        ] {
            let error = read(text);
            assert!(
                matches!(&error, Err(IndexError::DuplicateKey(found)) if found == key),
                "{error:?}"
            );
        }
    }

    #[test]
    fn other_files_say_what_they_are() {
        assert!(matches!(read("{}"), Err(IndexError::NoWeightMap)));
        assert!(matches!(
            read(r#"{"weight_map":{}}"#),
            Err(IndexError::NoTensors)
        ));
        assert!(matches!(read(""), Err(IndexError::Json(_))));
        assert!(matches!(read("[]"), Err(IndexError::Json(_))));
        assert!(matches!(
            read(r#"{"weight_map":{"a":"b"}} x"#),
            Err(IndexError::Json(_))
        ));
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
        assert!(matches!(read(pointer), Err(IndexError::LfsPointer)));
        let error = read(r#"{"weight_map":{"a":1}}"#).unwrap_err().to_string();
        assert!(error.contains("expected a file name"), "{error}");
    }

    #[test]
    fn every_limit_holds() {
        let text = r#"{"weight_map":{"abc":"x","b":"x"}}"#;
        let mut limits = Limits::default();
        limits.tensors = 2;
        limits.name_bytes = 3;
        limits.header_bytes = text.len() as u64;
        assert!(parse(text.as_bytes(), &limits).is_ok());
        for lower in [
            |limits: &mut Limits| limits.tensors -= 1,
            |limits: &mut Limits| limits.name_bytes -= 1,
            |limits: &mut Limits| limits.header_bytes -= 1,
        ] {
            let mut limits = limits.clone();
            lower(&mut limits);
            let error = parse(text.as_bytes(), &limits);
            assert!(
                matches!(error, Err(IndexError::LimitExceeded { limit, found, .. }) if found == limit + 1),
                "{error:?}"
            );
        }
        let many = |count: usize| {
            let entries: Vec<_> = (0..count).map(|n| format!("\"{n}\":\"{n}\"")).collect();
            entries.join(",")
        };
        let shards = format!(r#"{{"weight_map":{{{}}}}}"#, many(Index::MAX_SHARDS + 1));
        let metadata = format!(
            r#"{{"metadata":{{{}}}}}"#,
            many(Limits::default().metadata_entries + 1)
        );
        for text in [shards, metadata] {
            assert!(matches!(read(&text), Err(IndexError::LimitExceeded { .. })));
        }
    }

    #[test]
    fn deep_nesting_is_no_recursion() {
        let deep = "[".repeat(1_000_000);
        assert!(matches!(read(&deep), Err(IndexError::Json(_))));
        for place in [r#"{"x":"#, r#"{"metadata":{"x":"#, r#"{"weight_map":{"x":"#] {
            assert!(matches!(
                read(&format!("{place}{deep}")),
                Err(IndexError::Json(_))
            ));
        }
        let closed = format!("{deep}{}", "]".repeat(1_000_000));
        let text =
            format!(r#"{{"x":{closed},"metadata":{{"y":{closed}}},"weight_map":{{"a":"b"}}}}"#);
        assert!(read(&text).is_ok());
    }
}
