//! What breaks the format is refused, each for its own reason.

use proptest::prelude::*;
use safetensors::SafeTensors;
use tensorlift_format_safetensors::{Error, FormatDtype, TensorView, read, to_bytes};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{CatalogError, Error as MetaError, ErrorKind, Limits};

use super::{file, read_both};

/// Reads a file of one tensor `a` with this description and 8 bytes.
fn one(description: &str) -> Result<(), Error> {
    read_both(&file(&format!("{{\"a\":{{{description}}}}}"), 8)).map(drop)
}

macro_rules! refused {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            other => panic!("expected {}, found {other:?}", stringify!($pattern)),
        }
    };
}

#[test]
fn a_length_that_cannot_be() {
    refused!(read_both(b"1234567"), Error::TooShort { found: 7 });
    refused!(read_both(&[0; 8]), Error::Zeros { start: 0, end: 8 });
    refused!(
        read_both(&[255; 20]),
        Error::HeaderTooLong {
            declared: u64::MAX,
            ..
        }
    );
    let declared = 100_000_000u64;
    refused!(
        read_both(&declared.to_le_bytes()),
        Error::HeaderCutShort { available: 0, .. }
    );
}

#[test]
fn a_header_that_is_no_header() {
    refused!(
        read_both(&file(" {}", 0)),
        Error::NotAnObject { found: Some(b' ') }
    );
    refused!(read_both(&file("[]", 0)), Error::NotAnObject { .. });
    refused!(read_both(&file("{} {}", 0)), Error::Syntax { .. });
    refused!(read_both(&file(r#"{"a":1}"#, 0)), Error::Syntax { .. });
    refused!(
        read_both(&file(&"{\"a\":".repeat(100_000), 0)),
        Error::Syntax { .. }
    );
    for header in [
        r#"{"__metadata__":{"a":"?"}}"#,
        r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"note":"?"}}"#,
    ] {
        let mut not_utf8 = file(header, 0);
        let place = not_utf8.iter().position(|&byte| byte == b'?').unwrap();
        not_utf8[place] = 0xff;
        refused!(read_both(&not_utf8), Error::NotUtf8 { .. });
    }
}

#[test]
fn what_the_reference_refuses_is_refused() {
    let note = |note: &str| {
        let fields = r#""dtype":"U8","shape":[0],"data_offsets":[0,0]"#;
        file(&format!("{{\"a\":{{{fields},\"note\":{note}}}}}"), 0)
    };
    let nested = |depth: usize| note(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    for file in [note("[{\"b\":[1,-1,0.5,null,true,\"c\"]}]"), nested(125)] {
        assert!(SafeTensors::deserialize(&file).is_ok());
        assert_eq!(read_both(&file).unwrap().len(), 1);
    }
    for file in [
        nested(126),
        nested(1_000_000),
        note("1e999"),
        note(r#""\ud800""#),
    ] {
        assert!(SafeTensors::deserialize(&file).is_err());
        refused!(read_both(&file), Error::Syntax { .. });
    }
    let size = u64::MAX / 2;
    let shape = format!(r#"{{"a":{{"dtype":"U8","shape":[{size},3,0],"data_offsets":[0,0]}}}}"#);
    let file = file(&shape, 0);
    assert!(SafeTensors::deserialize(&file).is_err());
    refused!(read_both(&file), Error::Catalog(CatalogError::Layout(_)));
}

#[test]
fn names_and_fields_are_given_once() {
    let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                    "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    refused!(
        read_both(&file(twice, 2)),
        Error::Catalog(CatalogError::DuplicateName { .. })
    );
    refused!(
        one(r#""dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]"#),
        Error::Repeated { .. }
    );
    for metadata in [
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        r#"{"__metadata__":{"a":1}}"#,
    ] {
        refused!(
            read_both(&file(metadata, 0)),
            Error::Repeated { .. } | Error::Syntax { .. }
        );
    }
}

#[test]
fn sizes_must_fit() {
    assert!(one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#).is_ok());
    refused!(
        one(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#),
        Error::WrongSize { expected: 12, .. }
    );
    refused!(
        one(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#),
        Error::WrongSize { .. }
    );
    refused!(
        one(r#""dtype":"F32","shape":[4],"data_offsets":[0,16]"#),
        Error::WrongLength { .. }
    );
    refused!(
        one(r#""dtype":"F4","shape":[15],"data_offsets":[0,8]"#),
        Error::Catalog(CatalogError::NoSize { .. })
    );
    let most = u64::MAX;
    refused!(
        one(&format!(
            r#""dtype":"F32","shape":[{most},2],"data_offsets":[0,8]"#
        )),
        Error::Catalog(CatalogError::Layout(_))
    );
    refused!(
        one(&format!(
            r#""dtype":"U8","shape":[{most}],"data_offsets":[0,{most}]"#
        )),
        Error::Catalog(CatalogError::NoSize { .. })
    );
    for number in ["-1", "-0", "1.0", "1e2", "\"2\"", "18446744073709551616"] {
        refused!(
            one(&format!(
                r#""dtype":"F32","shape":[{number}],"data_offsets":[0,8]"#
            )),
            Error::Syntax { .. }
        );
    }
}

#[test]
fn ranges_cover_the_file() {
    let pair = |first: &str, second: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},
                 "b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        );
        read_both(&file(&header, 8)).map(drop)
    };
    assert!(pair("[4,8]", "[0,4]").is_ok());
    refused!(
        pair("[0,4]", "[3,7]"),
        Error::Misplaced {
            expected: 4,
            found: 3,
            ..
        }
    );
    refused!(pair("[0,4]", "[0,4]"), Error::Misplaced { .. });
    refused!(
        pair("[1,5]", "[4,8]"),
        Error::Misplaced {
            expected: 0,
            found: 1,
            ..
        }
    );
    let short = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    refused!(read_both(&file(short, 5)), Error::WrongLength { .. });
    refused!(read_both(&file(short, 3)), Error::WrongLength { .. });
}

#[test]
fn syntax_errors_say_where_and_what() {
    let said = |header: &str| read_both(&file(header, 8)).unwrap_err().to_string();
    for (header, line) in [
        (
            r#"{"a":1}"#,
            "byte 5 of the header: expected '{', found '1'",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#,
            "byte 53 of the header: expected ',' or '}', found the header's end",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}"#,
            "byte 29 of the header: expected a whole number below 2^64, found '0'",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}"#,
            "byte 47 of the header: expected a begin and an end, found 3 numbers",
        ),
        (
            r#"{"a":{"dtype":"F32","data_offsets":[0,8]}}"#,
            "the description that ends at byte 41 of the header has no \"shape\"",
        ),
        (
            "{\"a\nb\":{}}",
            "byte 3 of the header: expected a control character in its escaped form, found '\\n'",
        ),
    ] {
        assert_eq!(said(header), line);
    }
}

#[test]
fn a_cut_file_is_told_by_its_full_size() {
    let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                     "b":{"dtype":"U8","shape":[4000],"data_offsets":[4,4004]}}"#;
    let full = 8 + header.len() as u64 + 4004;
    for bytes in [0, 1, 4, 4003, 4005] {
        let Err(Error::WrongLength { expected, found }) = read_both(&file(header, bytes)) else {
            panic!("{bytes} bytes");
        };
        assert_eq!((expected, found), (full, full - 4004 + bytes as u64));
    }
}

#[test]
fn zeros_are_told_as_such() {
    let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    let whole = file(header, 4);
    let len = whole.len() as u64;
    refused!(
        read_both(&vec![0; 9000]),
        Error::Zeros {
            start: 0,
            end: 9000
        }
    );
    let mut head = whole.clone();
    head[..32].fill(0);
    refused!(read_both(&head), Error::Zeros { start: 0, end: 32 });
    let mut behind_length = whole.clone();
    behind_length[8..].fill(0);
    refused!(read_both(&behind_length), Error::Zeros { start: 8, .. });
    let mut tail = whole.clone();
    tail[20..].fill(0);
    let Err(Error::Zeros { start: 20, end }) = read_both(&tail) else {
        panic!("zeros from byte 20 on");
    };
    assert_eq!(end, len);
    let mut padded = whole.clone();
    padded.resize(whole.len() + 6000, 0);
    let Err(Error::Padded { expected, zeros }) = read_both(&padded) else {
        panic!("zeros behind");
    };
    assert_eq!((expected, zeros), (len, 6000));
    // Other bytes behind are no padding.
    padded.push(1);
    refused!(read_both(&padded), Error::WrongLength { .. });
}

#[test]
fn limits_hold_and_say_what_they_are() {
    let mut limits = Limits::default();
    limits.tensors = 1;
    limits.rank = 2;
    limits.name_bytes = 3;
    limits.metadata_entries = 1;
    let two = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},
                  "b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    let deep = r#"{"a":{"dtype":"U8","shape":[0,1,2],"data_offsets":[0,0]}}"#;
    let long = r#"{"abcd":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    let chatty = r#"{"__metadata__":{"a":"","b":""}}"#;
    for header in [two, deep, long, chatty] {
        let storage = MemoryStorage::new(file(header, 0));
        let error = MetaError::from(read(&storage, &limits).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(read(&storage, &Limits::default()).is_ok());
    }
}

#[test]
fn errors_name_the_tensor_and_a_remedy() {
    let error = one(r#""dtype":"F3","shape":[2],"data_offsets":[0,8]"#).unwrap_err();
    let error = MetaError::from(error);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.tensor(), Some("a"));
    let line = "tensor \"a\": unknown dtype \"F3\"; update tensorlift, or convert the tensor";
    assert_eq!(error.to_string(), line);
}

/// A file with a few tensors of each kind.
fn sample() -> Vec<u8> {
    let bytes = [3; 64];
    let view = |dtype, shape: &[usize], len| TensorView::new(dtype, shape.to_vec(), &bytes[..len]);
    let tensors = [
        ("model.weight", view(FormatDtype::F32, &[2, 3], 24).unwrap()),
        ("model.bias", view(FormatDtype::BF16, &[3], 6).unwrap()),
        ("scale", view(FormatDtype::F64, &[], 8).unwrap()),
        ("none", view(FormatDtype::U8, &[0], 0).unwrap()),
    ];
    let metadata = [("format".to_owned(), "pt".to_owned())]
        .into_iter()
        .collect();
    to_bytes(tensors, Some(metadata)).unwrap()
}

#[test]
fn no_truncation_is_accepted() {
    let file = sample();
    for len in 0..file.len() {
        assert!(
            read_both(&file[..len]).is_err(),
            "cut to {len} of {} bytes",
            file.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A changed byte gives an error or a catalog that still fits the file.
    #[test]
    fn a_flipped_byte_never_panics(place in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut file = sample();
        let place = place.index(file.len());
        file[place] = value;
        if let Ok(catalog) = read_both(&file) {
            for entry in catalog.entries() {
                prop_assert!(entry.extent().end() <= file.len() as u64);
                prop_assert_eq!(entry.byte_len(), entry.extent().len);
            }
        }
    }

    /// Neither does anything else.
    #[test]
    fn any_header_gives_an_answer(header in r#"[{}\[\]":,a0-9dtypeshoff_ U8]{0,200}"#) {
        let _ = read_both(&file(&header, 8));
    }
}
