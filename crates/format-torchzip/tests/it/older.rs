//! The formats before the archives: legacy files, tar files and bare pickles.

use tensorlift_format_torchzip::{Error, Format, ReadOptions, TorchFile, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Dtype, ErrorKind};

use crate::oracle::resolve;
use crate::write::Pickle;

const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn open(bytes: &[u8]) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes.to_vec()), &ReadOptions::default())
}

fn bytes_of(bytes: &[u8], file: &TorchFile, name: &str) -> Vec<u8> {
    let entry = file
        .catalog()
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    resolve(&MemoryStorage::new(bytes.to_vec()), file.catalog(), entry).unwrap()
}

/// `_rebuild_tensor_v2` over a legacy storage with these view metadata.
pub(crate) fn tensor(
    pickle: Pickle,
    kind: &str,
    key: &str,
    elements: i64,
    len: i64,
    view: &[u8],
) -> Pickle {
    let pickle = pickle
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"((");
    let pickle = pickle
        .text("storage")
        .global("torch", &format!("{kind}Storage"));
    let pickle = pickle
        .text(key)
        .text("cpu")
        .int(elements)
        .raw(view)
        .raw(b"tQ");
    pickle.int(0).sizes(&[len]).sizes(&[1]).raw(b"\x89NtR")
}

pub(crate) fn legacy(object: Pickle, keys: &[&str], storages: &[(i64, &[u8])]) -> Vec<u8> {
    let mut list = Pickle::new().raw(b"](");
    for key in keys {
        list = list.text(key);
    }
    let mut bytes = [MAGIC, &object.stop(), &list.raw(b"e").stop()].concat();
    for (count, data) in storages {
        bytes.extend(count.to_le_bytes());
        bytes.extend(*data);
    }
    bytes
}

fn sample() -> Pickle {
    let pickle = Pickle::new().raw(b"}(").text("b");
    let pickle = tensor(pickle, "Short", "1", 2, 2, b"N").text("a");
    tensor(pickle, "Byte", "0", 3, 3, b"N").raw(b"u")
}

#[test]
fn legacy_storages_follow_the_key_list() {
    let bytes = legacy(sample(), &["0", "1"], &[(3, b"abc"), (2, b"wxyz")]);
    let file = open(&bytes).unwrap();
    assert_eq!(file.format(), Format::Legacy);
    assert_eq!(bytes_of(&bytes, &file, "a"), b"abc");
    assert_eq!(bytes_of(&bytes, &file, "b"), b"wxyz");
    assert_eq!(file.catalog().entries()[0].dtype(), Dtype::I16);
}

#[test]
fn legacy_views_and_classes_with_source() {
    let view = Pickle::default()
        .raw(b"(")
        .text("v")
        .int(1)
        .int(2)
        .raw(b"t");
    let view = view.stop();
    let pickle = Pickle::new().raw(b"(").text("module").global("m", "Net");
    let pickle = pickle
        .text("net.py")
        .text("class Net: ...")
        .raw(b"tQ)\x81}")
        .text("w");
    let pickle = tensor(pickle, "Short", "0", 4, 2, &view[..view.len() - 1]).raw(b"sb");
    let bytes = legacy(pickle, &["0"], &[(4, b"aabbccdd")]);
    let file = open(&bytes).unwrap();
    assert_eq!(bytes_of(&bytes, &file, "w"), b"bbcc");
    assert!(file.state().unwrap().to_string().contains("\"m.Net\""));
}

#[test]
fn legacy_files_that_contradict_themselves() {
    let good: [(i64, &[u8]); 2] = [(3, b"abc"), (2, b"wxyz")];
    let cases: [(Vec<u8>, &str); 6] = [
        (
            legacy(sample(), &["0", "1"], &[(3, b"abc"), (2, b"wxy")]),
            "cut short",
        ),
        (
            legacy(sample(), &["0", "1"], &[(4, b"abcd"), (2, b"wxyz")]),
            "3 elements, found 4",
        ),
        (legacy(sample(), &["0", "1"], &[(-1, b"abc")]), "3 elements"),
        (
            legacy(sample(), &["0"], &good[..1]),
            "storage \"1\" is missing",
        ),
        (
            legacy(sample(), &["0", "0"], &[(3, b"abc"), (3, b"abc")]),
            "listed twice",
        ),
        (
            legacy(
                sample(),
                &["0", "1", "2"],
                &[(3, b"abc"), (2, b"wxyz"), (0, b"")],
            ),
            "mentions",
        ),
    ];
    for (bytes, expected) in cases {
        let error = open(&bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}

#[test]
fn view_metadata_have_three_parts() {
    let two = Pickle::default()
        .raw(b"(")
        .text("v")
        .int(1)
        .raw(b"t")
        .stop();
    for view in [&b"K\x07"[..], &two[..two.len() - 1]] {
        let pickle = tensor(Pickle::new().raw(b"}").text("w"), "Byte", "0", 3, 3, view);
        let bytes = legacy(pickle.raw(b"s"), &["0"], &[(3, b"abc")]);
        assert_eq!(open(&bytes).unwrap_err().kind(), ErrorKind::Malformed);
    }
}

#[test]
fn a_long_legacy_pickle_is_read_in_growing_windows() {
    let filler = "x".repeat(3 << 20);
    let pickle = Pickle::new()
        .raw(b"}(")
        .text("note")
        .text(&filler)
        .text("a");
    let pickle = tensor(pickle, "Byte", "0", 3, 3, b"N").raw(b"u");
    let bytes = legacy(pickle, &["0"], &[(3, b"abc")]);
    let file = open(&bytes).unwrap();
    assert_eq!(bytes_of(&bytes, &file, "a"), b"abc");
}

fn member(name: &str, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    block[156] = b'0';
    block[257..262].copy_from_slice(b"ustar");
    block.extend(data);
    block.resize(block.len().div_ceil(512) * 512, 0);
    block
}

fn tar(storages: &[u8]) -> Vec<u8> {
    let key = |pickle: Pickle, key: i64| pickle.int(key);
    let tensors = [
        Pickle::new().int(1).stop(),
        key(key(Pickle::new(), 7), 6)
            .global("torch", "FloatTensor")
            .raw(b"\x87")
            .stop(),
        2i64.to_le_bytes().to_vec(),
        [1i64, 2, 2, 1, 0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    ]
    .concat();
    let object = Pickle::new()
        .raw(b"}")
        .text("w")
        .text("7")
        .raw(b"Qs")
        .stop();
    [
        member("sys_info", &Pickle::new().raw(b"}").stop()),
        member("pickle", &object),
        member("tensors", &tensors),
        member("storages", storages),
        vec![0; 1024],
    ]
    .concat()
}

/// One storage of four floats under the key 5, and a view of its last two under 6.
fn tar_storages(view: (i64, i64)) -> Vec<u8> {
    let data: Vec<u8> = [1f32, 2., 3., 4.]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let views = Pickle::new()
        .raw(b"]((")
        .int(6)
        .int(5)
        .int(view.0)
        .int(view.1)
        .raw(b"te");
    [
        Pickle::new().int(1).stop(),
        Pickle::new()
            .int(5)
            .text("cpu")
            .global("torch", "FloatStorage")
            .raw(b"\x87")
            .stop(),
        4i64.to_le_bytes().to_vec(),
        data,
        views.stop(),
    ]
    .concat()
}

#[test]
fn tar_files_with_views() {
    let bytes = tar(&tar_storages((2, 2)));
    let file = open(&bytes).unwrap();
    assert_eq!(file.format(), Format::Tar);
    let expected: Vec<u8> = [3f32, 4.]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(bytes_of(&bytes, &file, "w"), expected);
    assert_eq!(file.catalog().entries()[0].shape(), [1, 2]);
}

#[test]
fn tar_files_that_contradict_themselves() {
    for view in [(3, 2), (-1, 2), (i64::MAX, 1)] {
        assert!(open(&tar(&tar_storages(view))).is_err());
    }
    let whole = tar(&tar_storages((2, 2)));
    for len in (0..whole.len() - 1536).step_by(7) {
        assert!(open(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_tensor_pickled_alone_carries_a_legacy_file() {
    let inner_object = Pickle::new()
        .raw(b"(")
        .text("storage")
        .global("torch", "ByteStorage");
    let inner_object = inner_object.text("5").text("cpu").int(3).raw(b"NtQ");
    let inner = legacy(inner_object, &["5"], &[(3, b"abc")]);
    let pickle = |bytes: &dyn Fn(Pickle) -> Pickle| {
        let pickle = Pickle::new().raw(b"}").text("w");
        let pickle = pickle
            .global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(");
        let pickle = pickle.global("torch.storage", "_load_from_bytes");
        bytes(pickle)
            .raw(b"\x85R")
            .int(1)
            .sizes(&[2])
            .sizes(&[1])
            .raw(b"\x89NtRs")
            .stop()
    };
    let raw = pickle(&|pickle| pickle.bytes(&inner));
    let text: String = inner.iter().map(|&byte| char::from(byte)).collect();
    let latin = pickle(&|pickle| {
        pickle
            .global("_codecs", "encode")
            .text(&text)
            .text("latin1")
            .raw(b"\x86R")
    });
    for bytes in [raw, latin] {
        let file = open(&bytes).unwrap();
        assert_eq!(file.format(), Format::Pickle);
        assert_eq!(bytes_of(&bytes, &file, "w"), b"bc");
    }
}

#[test]
fn bare_pickles_of_every_protocol() {
    let cases: [&[u8]; 6] = [
        b"(dp0\nVa\np1\nI1\nsVb\np2\n(lp3\nF1.5\naI01\nas.",
        b"}q\0(X\x01\0\0\0aq\x01K\x01X\x01\0\0\0bq\x02]q\x03(G\x3f\xf8\0\0\0\0\0\0I01\neu.",
        b"\x80\x02}q\0(X\x01\0\0\0aq\x01K\x01X\x01\0\0\0bq\x02]q\x03(G\x3f\xf8\0\0\0\0\0\0\x88eu.",
        b"\x80\x03}q\0(X\x01\0\0\0aq\x01K\x01X\x01\0\0\0bq\x02]q\x03(G\x3f\xf8\0\0\0\0\0\0\x88eu.",
        b"\x80\x04\x95\x1b\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(G\x3f\xf8\0\0\0\0\0\0\x88eu.",
        b"\x80\x05\x95\x1b\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(G\x3f\xf8\0\0\0\0\0\0\x88eu.",
    ];
    for bytes in cases {
        let file = open(bytes).unwrap_or_else(|error| panic!("{}: {error}", bytes.escape_ascii()));
        assert_eq!(
            file.state().unwrap().to_string(),
            r#"{"a": 1, "b": [1.5, True]}"#
        );
        assert!(file.catalog().is_empty());
    }
}

#[test]
fn other_files_are_told_apart() {
    for bytes in [
        &b""[..],
        b"<!DOCTYPE html><title>404</title>",
        b"GGUF\x03\0\0\0",
    ] {
        let error = open(bytes).unwrap_err();
        assert!(matches!(&error, Error::NotTorch), "{error}");
        let error = tensorlift_tensor_meta::Error::from(error);
        assert!(error.remedy().is_some());
    }
}
