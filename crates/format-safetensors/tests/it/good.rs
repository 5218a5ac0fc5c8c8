//! What other writers write is read, and described as the reference crate describes it.

use std::collections::HashMap;

use proptest::prelude::*;
use tensorlift_format_safetensors::{FormatDtype, TensorView, to_bytes, to_format};
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
