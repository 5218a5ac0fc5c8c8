//! What other writers write is read, and described as the reference crate describes it.

use std::collections::HashMap;
use std::fmt;

use proptest::prelude::*;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use tensorlift_format_safetensors::{Error, FormatDtype, TensorView, to_bytes, to_format};
use tensorlift_tensor_meta::Dtype;

use super::{file, read_both};

#[test]
fn file_order_is_kept_and_bytes_are_found() {
    let header = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},
        "__metadata__":{"format":"pt"},
        "a":{"data_offsets":[0,4],"note":[{}],"shape":[],"dtype":"F32"}}   "#;
    let catalog = read_both(&file(header, 6)).unwrap();
    let names: Vec<&str> = catalog
        .entries()
        .iter()
        .map(tensorlift_tensor_meta::Entry::name)
        .collect();
    assert_eq!(names, ["b", "a"]);
    let first = 8 + header.len() as u64;
    assert_eq!(catalog.get("a").unwrap().extent().range(), first..first + 4);
    assert_eq!(
        catalog.get("b").unwrap().extent().range(),
        first + 4..first + 6
    );
    assert_eq!(catalog.metadata()["format"], "pt");
}

#[test]
fn a_file_without_tensors_is_empty() {
    for header in ["{}", r#"{"__metadata__":{}}"#, r#"{"__metadata__":null}"#] {
        assert!(read_both(&file(header, 0)).unwrap().is_empty());
    }
}

#[test]
fn escapes_in_names_are_resolved() {
    let header = r#"{"\u00e9\n":{"dtype":"U8","shape":[0,9],"data_offsets":[0,0]}}"#;
    assert!(read_both(&file(header, 0)).unwrap().get("é\n").is_some());
}

/// Headers with the tokens that headers have, some of them as writers leave them.
fn header() -> impl Strategy<Value = String> {
    let text = || r#"([a-c.{}é]|\\u00e9|\\\\|\\n){0,4}"#;
    let space = || "( |\n|\t|){0,2}";
    let shape = prop::collection::vec(0u64..30, 0..4);
    let tensor = (text(), "(F32|BF16|U8|X)", shape, 0u64..100, 0..4, space());
    let tensor = tensor.prop_map(|(name, dtype, shape, begin, order, space)| {
        let elements: u64 = shape.iter().product();
        let end = begin + 4 * elements;
        let shape: Vec<_> = shape.iter().map(u64::to_string).collect();
        let shape = format!(r#""shape":{space}[{}]"#, shape.join(","));
        let dtype = format!(r#""dtype":"{dtype}"{space}"#);
        let offsets = format!(r#""data_offsets":[{begin}{space},{end}]"#);
        let fields = match order {
            0 => format!("{dtype},{shape},{offsets}"),
            1 => format!("{offsets},{dtype},{shape}"),
            2 => format!(r#"{shape},{offsets},{dtype},"x":[-1.5e3,{{"y":null}},"z"]"#),
            _ => format!("{dtype},{offsets}"),
        };
        format!(r#""{name}"{space}:{{{fields}}}"#)
    });
    let pair = (text(), text()).prop_map(|(key, value)| format!(r#""{key}":"{value}""#));
    let metadata = prop::collection::vec(pair, 0..3)
        .prop_map(|pairs| format!(r#""__metadata__":{{{}}}"#, pairs.join(",")));
    let items = prop::collection::vec(prop_oneof![4 => tensor, 1 => metadata], 0..5);
    (items, space()).prop_map(|(items, space)| format!("{{{}}}{space}", items.join(",")))
}

/// Whether this is JSON of the form of a header, by `serde_json` and the reference crate's types.
fn is_header(header: &str) -> bool {
    let Ok(Pairs(pairs)) = serde_json::from_str(header) else {
        return false;
    };
    let is_item = |(name, value): (String, serde_json::Value)| match name == "__metadata__" {
        true => serde_json::from_value::<Option<HashMap<String, String>>>(value).is_ok(),
        false => serde_json::from_value::<TensorInfo>(value).is_ok(),
    };
    pairs.into_iter().all(is_item)
}

/// The pairs of a map, those of equal keys too.
struct Pairs(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(pair) = map.next_entry()? {
            self.0.push(pair);
        }
        Ok(self)
    }
}

/// What is taken is a header, and what is refused for its syntax is none.
fn agrees(header: &str) -> Result<(), TestCaseError> {
    use Error::{Misplaced, MissingField, OffsetCount, Syntax, WrongLength};
    match read_both(&file(header, 0)) {
        // Everything but the places of the tensors was right.
        Ok(_) | Err(WrongLength { .. } | Misplaced { .. }) => {
            prop_assert!(is_header(header), "{header}");
        }
        Err(Syntax { .. } | MissingField { .. } | OffsetCount { .. }) => {
            prop_assert!(!is_header(header), "{header}");
        }
        Err(_) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_syntax_is_that_of_json(
        header in header(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"{}[]\",:\\01 -e\n".to_vec()),
        kind in 0..4,
    ) {
        let mut bytes = header.into_bytes();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => {}
        }
        if let Ok(header) = String::from_utf8(bytes) {
            agrees(&header)?;
        }
    }
}

proptest! {
    /// Whatever the reference crate writes has the names, dtypes, shapes and bytes that the
    /// reference crate reads back.
    #[test]
    fn the_reference_crate_agrees(
        tensors in proptest::collection::hash_map(
            "[ -~é]{0,12}",
            (0..Dtype::ALL.len(), proptest::collection::vec(0usize..5, 0..4)),
            0..12,
        ),
        metadata in proptest::option::of(
            proptest::collection::hash_map("[a-z]{0,5}", "[ -~]{0,9}", 0..4),
        ),
    ) {
        let tensors: HashMap<String, (FormatDtype, Vec<usize>)> = tensors
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .filter_map(|(name, (dtype, shape))| {
                Some((name, (to_format(Dtype::ALL[dtype])?, shape)))
            })
            .filter(|(_, (dtype, shape))| {
                (shape.iter().product::<usize>() * dtype.bitsize()).is_multiple_of(8)
            })
            .collect();
        let bytes: Vec<u8> = (0..4096).map(|index| index as u8).collect();
        let views = tensors.iter().map(|(name, (dtype, shape))| {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name, TensorView::new(*dtype, shape.clone(), &bytes[..len]).unwrap())
        });
        let written = to_bytes(views, metadata.clone()).unwrap();

        let catalog = read_both(&written).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&written).unwrap();
        prop_assert_eq!(catalog.len(), reference.len());
        for entry in catalog.entries() {
            let view = reference.tensor(entry.name()).unwrap();
            prop_assert_eq!(entry.dtype().as_str(), view.dtype().to_string());
            prop_assert_eq!(entry.shape(), view.shape());
            let range = entry.extent().range();
            prop_assert_eq!(&written[range.start as usize..range.end as usize], view.data());
        }
        let expected: HashMap<String, String> = metadata.unwrap_or_default();
        prop_assert_eq!(catalog.metadata().len(), expected.len());
        for (key, value) in catalog.metadata() {
            prop_assert_eq!(&expected[key], value);
        }
    }
}
