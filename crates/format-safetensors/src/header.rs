//! The header, parsed in one pass: names are borrowed, and every entry is checked as it comes.
//!
//! [`canonical`](crate::canonical) reads the form that writers leave; this is JSON in general.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype as FormatDtype;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::Error as ValueError,
};
use tensorlift_storage::{Anonymous, Storage, StorageExt};
use tensorlift_tensor_meta::{
    Catalog, CatalogBuilder, CatalogError, Dtype, Entry, Extent, Layout, LayoutError, Limits,
    Record, ShardId, View,
};

use crate::Error;
use crate::canonical::{Canonical, Described, Item};

/// The bytes of the header's length.
const LENGTH_BYTES: u64 = 8;

/// What a tensor takes in most headers; a guess that only saves growing.
const ENTRY_BYTES: usize = 100;

/// Whether a file that begins with these bytes (9 are enough) can be a safetensors file.
#[must_use]
pub fn is_safetensors(prefix: &[u8]) -> bool {
    // Lengths from 2^40 on are other formats' magic numbers.
    prefix.len() > 8 && prefix[8] == b'{' && prefix[5..8] == [0; 3]
}

/// Reads the header of a safetensors file.
///
/// Every rule of the format is checked: the header begins with a brace, its names are unique, each
/// byte range has the size of its dtype and shape, and the ranges cover the rest of the file
/// without gap or overlap.
/// Unknown fields of a tensor are passed over, as the reference implementation does.
///
/// # Errors
/// The first rule broken, the first limit crossed, or a failure to read.
pub fn read(storage: &dyn Storage, limits: &Limits) -> Result<Catalog, Error> {
    let file_len = storage.len();
    if file_len < LENGTH_BYTES {
        return Err(Error::TooShort { found: file_len });
    }
    let mut length = [0; LENGTH_BYTES as usize];
    storage.read_exact_at(0, &mut length).map_err(Error::Read)?;
    let declared = u64::from_le_bytes(length);
    if declared > limits.header_bytes {
        return Err(Error::HeaderTooLong {
            declared,
            limit: limits.header_bytes,
        });
    }
    let available = file_len - LENGTH_BYTES;
    if declared > available {
        return Err(Error::HeaderCutShort {
            declared,
            available,
        });
    }
    let start = LENGTH_BYTES as usize;
    match storage.as_slice() {
        Some(file) => parse(&file[start..][..declared as usize], file_len, limits),
        None => {
            // In huge pages a long header is read in half the time.
            let mut header = Anonymous::in_huge_pages(declared as usize).map_err(Error::Read)?;
            storage
                .read_exact_at(LENGTH_BYTES, &mut header)
                .map_err(Error::Read)?;
            parse(&header, file_len, limits)
        }
    }
}

/// Parses a whole header of a file of `file_len` bytes.
fn parse(header: &[u8], file_len: u64, limits: &Limits) -> Result<Catalog, Error> {
    if header.first() != Some(&b'{') {
        return Err(Error::NotAnObject {
            found: header.first().copied(),
        });
    }
    let first_byte = LENGTH_BYTES + header.len() as u64;
    // Fields that are passed over are text too.
    let text = std::str::from_utf8(header).map_err(Error::NotUtf8)?;
    let mut entries = Entries::new(limits, first_byte, file_len - first_byte);
    if !entries.read_canonical(text)? {
        entries = Entries::new(limits, first_byte, file_len - first_byte);
        entries.read_json(text)?;
    }
    let bytes = entries.bytes;
    let end = entries.check_order()?;
    if end != bytes {
        return Err(Error::WrongLength {
            expected: first_byte + end,
            found: file_len,
        });
    }
    Ok(entries.builder.finish())
}

/// The entries as they come out of the JSON.
struct Entries<'a> {
    limits: &'a Limits,
    /// Where the tensors' bytes begin in the file.
    first_byte: u64,
    /// How many bytes there are behind the header.
    bytes: u64,
    builder: CatalogBuilder,
    last_dtype: Option<(Box<str>, Dtype)>,
    /// A refusal of our own, kept beside the JSON parser's errors.
    refused: Option<Error>,
}

impl<'a> Entries<'a> {
    fn new(limits: &'a Limits, first_byte: u64, bytes: u64) -> Self {
        let mut builder = Catalog::builder();
        let expected = (first_byte as usize / ENTRY_BYTES).min(limits.tensors);
        builder.reserve(expected, expected);
        Self {
            limits,
            first_byte,
            bytes,
            builder,
            last_dtype: None,
            refused: None,
        }
    }

    /// Reads a header in the form that nearly all are in; tells whether it is in that form.
    fn read_canonical(&mut self, header: &str) -> Result<bool, Error> {
        let Some(mut items) = Canonical::new(header) else {
            return Ok(false);
        };
        let mut metadata = Metadata::default();
        while let Some(item) = items.next() {
            match item {
                Item::Tensor(described) => self.add(described, described.shape.len())?,
                Item::Metadata(key, value) => {
                    if metadata.pairs.contains_key(key) {
                        return Ok(false);
                    }
                    metadata.found += 1;
                    if metadata.found <= self.limits.metadata_entries {
                        metadata.pairs.insert(key.to_owned(), value.to_owned());
                    }
                }
                Item::End => {
                    self.add_metadata(metadata)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn read_json(&mut self, header: &str) -> Result<(), Error> {
        let mut json = serde_json::Deserializer::from_str(header);
        let parsed = json.deserialize_map(&mut *self).and_then(|()| json.end());
        match self.refused.take() {
            Some(error) => Err(error),
            None => parsed.map_err(Error::Json),
        }
    }

    /// Adds a tensor of so many dimensions, of which no more than the limit were kept.
    fn add(&mut self, described: Described<'_, '_>, rank: usize) -> Result<(), Error> {
        let Described {
            name,
            dtype,
            shape,
            data_offsets: (begin, end),
        } = described;
        for (what, found, limit) in [
            (
                "number of tensors",
                self.builder.len() + 1,
                self.limits.tensors,
            ),
            ("dimensions", rank, self.limits.rank),
            ("bytes of the name", name.len(), self.limits.name_bytes),
        ] {
            if found > limit {
                // A name that is too long is not repeated.
                let tensor = (name.len() <= self.limits.name_bytes).then(|| name.to_owned());
                return Err(Error::Limit {
                    tensor,
                    what,
                    found,
                    limit,
                });
            }
        }
        let dtype = self.dtype(name, dtype)?;
        // A zero does not save a product that overflows before it: the reference implementation
        // multiplies in this order.
        let product = |product: usize, &size: &usize| product.checked_mul(size);
        if shape.iter().try_fold(1, product).is_none() {
            let shape = shape.to_vec();
            let overflow = LayoutError::ShapeOverflow { shape };
            return Err(CatalogError::from(overflow).into());
        }
        let layout = Layout::contiguous(shape).map_err(CatalogError::from)?;
        let Some(expected) = layout.contiguous_bytes(dtype) else {
            let shape = layout.shape().to_vec();
            return Err(CatalogError::NoSize {
                name: name.to_owned(),
                dtype,
                shape,
            }
            .into());
        };
        if end.checked_sub(begin) != Some(expected) {
            return Err(Error::WrongSize {
                tensor: name.to_owned(),
                dtype,
                shape: layout.shape().to_vec(),
                expected,
                begin,
                end,
            });
        }
        if end > self.bytes {
            let expected = self.first_byte.saturating_add(end);
            let found = self.first_byte + self.bytes;
            return Err(Error::WrongLength { expected, found });
        }
        let extent = Extent::new(ShardId::FIRST, self.first_byte + begin, expected);
        let record = self.builder.record(Record::stored(extent))?;
        self.builder
            .entry(name, dtype, layout, View::whole(record))?;
        Ok(())
    }

    /// The dtype of a name, which is nearly always that of the tensor before.
    fn dtype(&mut self, tensor: &str, name: &str) -> Result<Dtype, Error> {
        if let Some((known, dtype)) = &self.last_dtype
            && **known == *name
        {
            return Ok(*dtype);
        }
        let known =
            FormatDtype::deserialize(IntoDeserializer::<ValueError>::into_deserializer(name));
        let Some(dtype) = known.ok().and_then(crate::from_format) else {
            return Err(Error::UnknownDtype {
                tensor: tensor.to_owned(),
                found: name.to_owned(),
            });
        };
        self.last_dtype = Some((name.into(), dtype));
        Ok(dtype)
    }

    /// Checks that the entries follow each other without gap or overlap, and returns where they
    /// end within the tensors' bytes.
    fn check_order(&self) -> Result<u64, Error> {
        let entries = self.builder.catalog().entries();
        let place = |entry: &Entry| (entry.extent().offset, entry.extent().len);
        if entries.is_sorted_by_key(place) {
            return self.check_gaps(entries.iter());
        }
        let mut order: Vec<&Entry> = entries.iter().collect();
        order.sort_unstable_by_key(|entry| place(entry));
        self.check_gaps(order.into_iter())
    }

    fn check_gaps<'e>(&self, order: impl Iterator<Item = &'e Entry>) -> Result<u64, Error> {
        let mut expected = self.first_byte;
        for entry in order {
            let extent = entry.extent();
            if extent.offset != expected {
                return Err(Error::Misplaced {
                    tensor: entry.name().to_owned(),
                    expected: expected - self.first_byte,
                    found: extent.offset - self.first_byte,
                });
            }
            expected = extent.end();
        }
        Ok(expected - self.first_byte)
    }

    fn add_metadata(&mut self, metadata: Metadata) -> Result<(), Error> {
        let (found, limit) = (metadata.found, self.limits.metadata_entries);
        if found > limit {
            return Err(Error::Limit {
                tensor: None,
                what: "lines of metadata",
                found,
                limit,
            });
        }
        for (key, value) in metadata.pairs {
            self.builder.metadata(key, value);
        }
        Ok(())
    }

    /// Keeps our refusal beside an error that stops the parser.
    fn refuse<E: serde::de::Error>(&mut self, error: Error) -> E {
        self.refused = Some(error);
        E::custom("refused")
    }
}

impl<'de> Visitor<'de> for &mut Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_metadata = false;
        while let Some(name) = map.next_key_seed(Text)? {
            if name == "__metadata__" {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(A::Error::duplicate_field("__metadata__"));
                }
                let metadata = map.next_value_seed(MetadataSeed(self.limits.metadata_entries))?;
                self.add_metadata(metadata)
                    .map_err(|error| self.refuse(error))?;
                continue;
            }
            let info = map.next_value_seed(InfoSeed(self.limits.rank))?;
            let described = Described {
                name: &name,
                dtype: &info.dtype,
                shape: &info.shape.dimensions,
                data_offsets: info.data_offsets,
            };
            self.add(described, info.shape.rank)
                .map_err(|error| self.refuse(error))?;
        }
        Ok(())
    }
}

/// A tensor as the header describes it.
struct Info<'a> {
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape, with no more dimensions kept than the limit.
struct Shape {
    dimensions: Vec<usize>,
    /// How many there were.
    rank: usize,
}

/// The `__metadata__` map, with no more pairs kept than the limit.
#[derive(Default)]
struct Metadata {
    pairs: BTreeMap<String, String>,
    /// How many there were.
    found: usize,
}

/// Reads an [`Info`] with up to so many dimensions.
struct InfoSeed(usize);
/// Reads a [`Shape`] of up to so many dimensions.
struct ShapeSeed(usize);
/// Reads [`Metadata`] of up to so many pairs.
struct MetadataSeed(usize);

impl<'de> DeserializeSeed<'de> for InfoSeed {
    type Value = Info<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InfoSeed {
    type Value = Info<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Info<'de>, A::Error> {
        let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
        while let Some(field) = map.next_key_seed(Text)? {
            let again = match &*field {
                "dtype" => dtype.replace(map.next_value_seed(Text)?).is_some(),
                "shape" => shape
                    .replace(map.next_value_seed(ShapeSeed(self.0))?)
                    .is_some(),
                "data_offsets" => data_offsets.replace(map.next_value()?).is_some(),
                _ => map.next_value_seed(PassedOver).map(|()| false)?,
            };
            if again {
                return Err(A::Error::custom(format_args!(
                    "field {field:?} given twice"
                )));
            }
        }
        Ok(Info {
            dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            data_offsets: data_offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?,
        })
    }
}

impl<'de> DeserializeSeed<'de> for ShapeSeed {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Shape {
            dimensions: Vec::new(),
            rank: 0,
        };
        while let Some(size) = seq.next_element()? {
            shape.rank += 1;
            if shape.rank <= self.0 {
                shape.dimensions.push(size);
            }
        }
        Ok(shape)
    }
}

impl<'de> DeserializeSeed<'de> for MetadataSeed {
    type Value = Metadata;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of text to text")
    }

    /// Some writers leave an empty map as null.
    fn visit_none<E>(self) -> Result<Metadata, E> {
        Ok(Metadata::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::default();
        while let Some(key) = map.next_key_seed(Text)? {
            metadata.found += 1;
            let value = map.next_value_seed(Text)?;
            if metadata.found > self.0 {
                continue;
            }
            if metadata.pairs.contains_key(&*key) {
                return Err(A::Error::custom(format_args!(
                    "metadata key {key:?} given twice"
                )));
            }
            metadata.pairs.insert(key.into_owned(), value.into_owned());
        }
        Ok(metadata)
    }
}

/// Any value, read as strictly as the reference implementation does: nesting is bounded, numbers
/// fit a float, escapes are characters. Nothing of it is kept.
struct PassedOver;

impl<'de> DeserializeSeed<'de> for PassedOver {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PassedOver {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(PassedOver)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry_seed(PassedOver, PassedOver)?.is_some() {}
        Ok(())
    }
}

/// Text, borrowed from the header unless it has escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST_BYTE: u64 = 1000;
    const BYTES: u64 = 1 << 40;

    type Listed = Result<Catalog, ()>;

    /// What each of the two ways alone makes of a header; the first may leave it to the second.
    fn both(header: &str) -> (Option<Listed>, Listed) {
        let limits = Limits::default();
        let new = || Entries::new(&limits, FIRST_BYTE, BYTES);
        let (mut canonical, mut json) = (new(), new());
        let by_canonical = match canonical.read_canonical(header) {
            Ok(true) => Some(Ok(canonical.builder.finish())),
            Ok(false) => None,
            Err(_) => Some(Err(())),
        };
        let by_json = json.read_json(header).map_err(drop);
        (by_canonical, by_json.map(|()| json.builder.finish()))
    }

    fn header() -> impl Strategy<Value = String> {
        let text = || "[a-c.{}é]{0,4}";
        let shape = prop::collection::vec(0u64..30, 0..4);
        let tensor = (text(), "(F32|BF16|U8|X)", shape, 0u64..100).prop_map(
            |(name, dtype, shape, begin)| {
                let shape: Vec<_> = shape.iter().map(u64::to_string).collect();
                let elements: u64 = shape.iter().flat_map(|size| size.parse::<u64>()).product();
                let end = begin + 4 * elements;
                let shape = shape.join(",");
                format!(
                    r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#
                )
            },
        );
        let pair = (text(), text()).prop_map(|(key, value)| format!(r#""{key}":"{value}""#));
        let metadata = prop::collection::vec(pair, 0..3)
            .prop_map(|pairs| format!(r#""__metadata__":{{{}}}"#, pairs.join(",")));
        let items = prop::collection::vec(prop_oneof![4 => tensor, 1 => metadata], 0..5);
        (items, 0usize..3)
            .prop_map(|(items, padding)| format!("{{{}}}{}", items.join(","), " ".repeat(padding)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_in_canonical_form_means_what_json_means(header in header()) {
            let (canonical, json) = both(&header);
            // Names that are given twice and the like are left to JSON, or refused by both.
            prop_assert!(canonical.is_none_or(|canonical| canonical == json), "{header}");
        }

        #[test]
        fn a_changed_byte_is_never_taken_for_canonical(
            header in header(),
            at in any::<prop::sample::Index>(),
            byte in prop::sample::select(br#"{}[]",:\01 -e"#.to_vec()),
            kind in 0..3,
        ) {
            let mut bytes = header.into_bytes();
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            if let Ok(header) = String::from_utf8(bytes) {
                let (canonical, json) = both(&header);
                prop_assert!(canonical.is_none_or(|canonical| canonical == json), "{header}");
            }
        }
    }

    #[test]
    fn what_writers_leave_is_in_canonical_form() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[],"data_offsets":[24,25]}}   "#;
        let (canonical, json) = both(header);
        assert_eq!(canonical.unwrap().unwrap().len(), 2);
        assert_eq!(json.unwrap().len(), 2);
    }
}
