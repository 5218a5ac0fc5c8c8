//! The object `metadata` of an index file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::IndexError;
use super::draft::{Draft, within};

/// The object `metadata`; `null` counts as absent.
pub(super) struct Metadata<'d, 'l>(pub(super) &'d mut Draft<'l>);

impl<'de> DeserializeSeed<'de> for Metadata<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of metadata")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.metadata = Some(BTreeMap::new());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let draft = self.0;
        let mut metadata = BTreeMap::new();
        let mut count = 0;
        while let Some(key) = map.next_key::<String>()? {
            count += 1;
            let limit = draft.limits.metadata_entries as u64;
            let enough = within("keys of metadata", count, limit);
            draft.keep(enough)?;
            let scalar = map.next_value::<Scalar>()?;
            if key == "total_size" {
                draft.total_size = scalar.bytes;
            }
            match metadata.entry(key) {
                Entry::Vacant(vacant) => vacant.insert(scalar.text),
                Entry::Occupied(taken) => {
                    let fault = IndexError::DuplicateKey(taken.key().clone());
                    draft.keep::<A::Error>(Err(fault))?;
                    return Err(A::Error::custom("refused"));
                }
            };
        }
        let texts = metadata.into_iter();
        draft.metadata = Some(texts.filter_map(|(key, text)| Some((key, text?))).collect());
        Ok(())
    }
}

/// A value of the metadata.
#[derive(Default)]
struct Scalar {
    /// Absent for null, lists and objects.
    text: Option<String>,
    /// The value as a number of bytes, where it is one.
    bytes: Option<u64>,
}

impl<'de> serde::Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::text(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::text(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                let bytes = Some(value);
                Ok(Scalar {
                    bytes,
                    ..Scalar::text(value)
                })
            }

            /// Some writers give the sum of packed dtypes as `5132190720.0`.
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                let whole = value >= 0.0 && value < u64::MAX as f64 && value.fract() == 0.0;
                let bytes = whole.then_some(value as u64);
                Ok(Scalar {
                    bytes,
                    ..Scalar::text(value)
                })
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::text(value))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::default())
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Scalar {
    fn text(value: impl ToString) -> Self {
        Self {
            text: Some(value.to_string()),
            bytes: None,
        }
    }
}
