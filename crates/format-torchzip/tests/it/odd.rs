//! Pickles that are legal, but that few programs write, and how close ones are told apart.

use proptest::prelude::*;
use tensorlift_format_torchzip::{Error, TensorProblem, TorchFile, read, ties};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Dtype, Entry, ErrorKind};

use crate::older::{legacy, tensor as legacy_tensor};
use crate::oracle::resolve;
use crate::write::{Pickle, View, archive};

const FOUR: [u8; 16] = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0];

fn open(bytes: &[u8]) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes.to_vec()), &Default::default())
}

fn zip(pickle: Pickle) -> Result<TorchFile, Error> {
    open(&archive("a", &pickle.stop(), &[("0", &FOUR)]))
}

fn names(file: &TorchFile) -> Vec<&str> {
    file.catalog().entries().iter().map(Entry::name).collect()
}

fn problem(result: Result<TorchFile, Error>) -> TensorProblem {
    match result {
        Err(Error::Tensor { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// Element `at` of the storage "0".
fn element(pickle: Pickle, at: i64) -> Pickle {
    let view = View {
        offset: at,
        shape: &[1],
        strides: &[1],
    };
    pickle.tensor("Int", "0", 4, view)
}

/// A persistent id whose key is pushed by these opcodes.
fn keyed(key: &[u8]) -> Pickle {
    Pickle::new()
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"((")
        .text("storage")
        .global("torch", "IntStorage")
        .raw(key)
        .text("cpu")
        .int(4)
        .raw(b"tQ")
        .int(0)
        .sizes(&[4])
        .sizes(&[1])
        .raw(b"\x89NtR")
}

#[test]
fn a_storage_key_is_a_text() {
    let keys: [(&[u8], bool); 5] = [
        (b"X\x01\0\0\x000", true),
        // A text of Python 2.
        (b"U\x010", true),
        (b"C\x010", false),
        (b"B\x01\0\0\x000", false),
        (b"K\0", false),
    ];
    for (key, is_text) in keys {
        match zip(keyed(key)) {
            Ok(file) => assert!(is_text, "{key:?}: {:?}", names(&file)),
            Err(error) => {
                assert!(!is_text, "{key:?}: {error}");
                let error = error.to_string();
                assert!(error.contains("a text as the storage's key"), "{error}");
            }
        }
    }
    // The key list of a legacy file.
    let object = legacy_tensor(Pickle::new(), "Byte", "0", 3, 3, b"N");
    let mut bytes = legacy(object, &["0"], &[(3, b"abc")]);
    assert!(open(&bytes).is_ok());
    let key = bytes.windows(6).rposition(|key| key == b"X\x01\0\0\x000");
    bytes[key.unwrap()] = b'B';
    assert!(matches!(open(&bytes), Err(Error::Pickle { .. })));
}

#[test]
fn equal_keys_are_those_that_python_calls_equal() {
    let nan = b"G\x7f\xf8\0\0\0\0\0\0";
    let cases: [(&[&[u8]], &[&str]); 12] = [
        (&[b"K\x01", b"G\x3f\xf0\0\0\0\0\0\0"], &["1"]),
        (&[b"\x88", b"K\x01"], &["True"]),
        (&[b"U\x011", b"C\x011"], &["1", "b'1'"]),
        (&[b"U\x011", b"X\x01\0\0\x001"], &["1"]),
        (&[nan, nan], &["nan", "nan#2"]),
        // One NaN object, met twice.
        (&[b"G\x7f\xf8\0\0\0\0\0\0q\xff", b"h\xff"], &["nan"]),
        (&[b"G\0\0\0\0\0\0\0\0", b"G\x80\0\0\0\0\0\0\0"], &["0.0"]),
        (&[b"K\x01U\x01a\x86", b"\x88U\x01a\x86"], &["(1, a)"]),
        (
            &[b"K\x01K\x02\x86", b"K\x02K\x01\x86"],
            &["(1, 2)", "(2, 1)"],
        ),
        (
            &[
                b"\x8a\x09\0\0\0\0\0\0\0\0\x01",
                b"\x8a\x09\0\0\0\0\0\0\0\0\x01",
            ],
            &["18446744073709551616"],
        ),
        // 1e16, which is a whole number.
        (
            &[
                b"G\x43\x41\xc3\x79\x37\xe0\x80\0",
                b"\x8a\x07\0\0\xc1\x6f\xf2\x86\x23",
            ],
            &["1e+16"],
        ),
        (&[b"N", b"U\x04None"], &["None", "None#2"]),
    ];
    for (keys, expected) in cases {
        let mut pickle = Pickle::new().raw(b"}(");
        for (at, key) in keys.iter().enumerate() {
            pickle = element(pickle.raw(key), at as i64);
        }
        // A third pair, since dicts of one pair are not looked through.
        let pickle = element(pickle.text("z"), 3).raw(b"u");
        let file = zip(pickle).unwrap();
        assert_eq!(names(&file)[..expected.len()], *expected, "{keys:?}");
        assert_eq!(names(&file).len(), expected.len() + 1, "{keys:?}");
        // The last of equal keys counts.
        let last = file.catalog().entries()[expected.len() - 1].view().offset;
        assert_eq!(last, 4 * (keys.len() as u64 - 1), "{keys:?}");
    }
}

/// A key and what Python compares of it.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Int(i8),
    Float(i8),
    Bool(bool),
    Text(i8),
    Bytes(i8),
}

impl Key {
    fn write(&self, pickle: Pickle) -> Pickle {
        match self {
            Key::Int(value) => pickle.int((*value).into()),
            Key::Float(value) => pickle.raw(b"G").raw(&f64::from(*value).to_be_bytes()),
            Key::Bool(value) => pickle.raw(if *value { b"\x88" } else { b"\x89" }),
            Key::Text(value) => pickle.text(&value.to_string()),
            Key::Bytes(value) => pickle.bytes(value.to_string().as_bytes()),
        }
    }

    fn compared(&self) -> (u8, i8) {
        match *self {
            Key::Int(value) | Key::Float(value) => (0, value),
            Key::Bool(value) => (0, value.into()),
            Key::Text(value) => (1, value),
            Key::Bytes(value) => (2, value),
        }
    }
}

fn key() -> impl Strategy<Value = Key> {
    let small = || -1..3i8;
    prop_oneof![
        small().prop_map(Key::Int),
        small().prop_map(Key::Float),
        any::<bool>().prop_map(Key::Bool),
        small().prop_map(Key::Text),
        small().prop_map(Key::Bytes),
    ]
}

proptest! {
    #[test]
    fn a_dict_keeps_the_last_value_of_each_key_in_the_first_place(
        keys in prop::collection::vec(key(), 2..12),
    ) {
        let elements: Vec<u8> = vec![0; 4 * keys.len()];
        let mut pickle = Pickle::new().raw(b"}(");
        for (at, key) in keys.iter().enumerate() {
            let view = View { offset: at as i64, shape: &[1], strides: &[1] };
            pickle = key.write(pickle).tensor("Int", "0", keys.len() as i64, view);
        }
        let bytes = archive("a", &pickle.raw(b"u").stop(), &[("0", &elements)]);
        let file = open(&bytes).unwrap();
        let offsets = file.catalog().entries().iter().map(|entry| entry.view().offset / 4);
        let offsets: Vec<u64> = offsets.collect();
        let mut expected: Vec<((u8, i8), u64)> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let key = key.compared();
            match expected.iter_mut().find(|(other, _)| *other == key) {
                Some((_, last)) => *last = at as u64,
                None => expected.push((key, at as u64)),
            }
        }
        let expected: Vec<u64> = expected.into_iter().map(|(_, at)| at).collect();
        prop_assert_eq!(offsets, expected);
    }
}

/// (storage, offset, sizes, strides), as BUILD gives it to an old tensor.
fn view_state(pickle: Pickle, offset: i64, len: i64) -> Pickle {
    pickle
        .raw(b"(")
        .storage("Int", "0", 4)
        .int(offset)
        .sizes(&[len])
        .sizes(&[1])
        .raw(b"t")
}

#[test]
fn the_last_of_two_builds_counts() {
    // Made empty and filled twice.
    let old = Pickle::new().global("torch", "IntTensor").raw(b")\x81");
    let old = view_state(view_state(old, 0, 4).raw(b"b"), 2, 1).raw(b"b");
    // Rebuilt, then pointed elsewhere.
    let rebuilt = Pickle::new().vector("Int", "0", 4);
    let rebuilt = view_state(rebuilt, 2, 1).raw(b"b");
    for pickle in [old, rebuilt] {
        let file = zip(pickle).unwrap();
        let entry = &file.catalog().entries()[0];
        assert_eq!((entry.shape(), entry.view().offset), (&[1][..], 8));
    }
    // Attributes of both states stay.
    let object = Pickle::new().global("my", "Net").raw(b")\x81");
    let object = element(object.raw(b"}").text("a"), 0).raw(b"sb");
    let object = element(object.raw(b"}").text("b"), 1).raw(b"sb");
    let file = zip(object).unwrap();
    assert_eq!(names(&file), ["a", "b"]);
    let state = file.state().unwrap().to_string();
    assert!(
        state.contains("\"a\"") && state.contains("\"b\""),
        "{state}"
    );
}

/// The metadata of a view of a legacy storage.
fn view(key: &str, offset: i64, len: i64) -> Vec<u8> {
    let pickle = Pickle::default().raw(b"(").text(key).int(offset).int(len);
    let bytes = pickle.raw(b"t").stop();
    bytes[..bytes.len() - 1].to_vec()
}

#[test]
fn a_key_stands_for_one_storage() {
    let two = |first: (&str, &[u8], i64), second: (&str, &[u8], i64)| {
        let pickle = Pickle::new().raw(b"}(").text("a");
        let pickle = legacy_tensor(pickle, first.0, "0", 4, first.2, first.1).text("b");
        let pickle = legacy_tensor(pickle, second.0, "0", 4, second.2, second.1);
        open(&legacy(pickle.raw(b"u"), &["0"], &[(4, b"abcd")]))
    };
    let (left, right) = (view("v", 0, 2), view("v", 2, 2));
    let other = view("w", 2, 2);
    assert!(two(("Byte", &left, 2), ("Byte", &left, 2)).is_ok());
    assert!(two(("Byte", &left, 2), ("Byte", &other, 2)).is_ok());
    let own = view("0", 2, 2);
    let refused = [
        two(("Byte", &left, 2), ("Byte", &right, 2)),
        two(("Byte", &left, 2), ("Byte", &view("v", 0, 1), 1)),
        two(("Byte", b"N", 4), ("Byte", &own, 2)),
        two(("Byte", b"N", 4), ("Char", b"N", 4)),
    ];
    for result in refused {
        assert!(matches!(
            problem(result),
            TensorProblem::Contradiction { .. }
        ));
    }
    let pickle = Pickle::new().raw(b"}(").text("a").vector("Int", "0", 4);
    let pickle = pickle.text("b").vector("Float", "0", 4).raw(b"u");
    let error = problem(zip(pickle)).to_string();
    assert!(error.contains("I32") && error.contains("F32"), "{error}");
}

/// An array of two numbers as `_rebuild_device_tensor_from_numpy` gets it.
fn from_numpy(numbers: [f32; 2], dtype: &str, function: &str) -> Pickle {
    let bytes = numbers.map(f32::to_le_bytes).concat();
    let pickle = Pickle::new().global("torch._utils", function).raw(b"(");
    let pickle = pickle
        .global("numpy.core.multiarray", "_reconstruct")
        .raw(b"(");
    let pickle = pickle
        .global("numpy", "ndarray")
        .sizes(&[0])
        .bytes(b"b")
        .raw(b"tR(");
    let pickle = pickle.int(1).sizes(&[2]).global("numpy", "dtype").raw(b"(");
    let pickle = pickle
        .text("f4")
        .raw(b"\x89\x88tR\x89")
        .bytes(&bytes)
        .raw(b"tb");
    pickle.global("torch", dtype).text("xla:0").raw(b"\x88tR")
}

#[test]
fn a_tensor_of_another_device_has_the_dtype_of_its_call() {
    let exact = [1.5, -2.0];
    for function in [
        "_rebuild_device_tensor_from_numpy",
        "_rebuild_xla_tensor",
        "_rebuild_ort_tensor",
    ] {
        let bytes = archive("a", &from_numpy(exact, "float32", function).stop(), &[]);
        let file = open(&bytes).unwrap();
        assert_eq!(file.catalog().entries()[0].dtype(), Dtype::F32);

        // PyTorch hands BF16 to NumPy as F32.
        let bytes = archive("a", &from_numpy(exact, "bfloat16", function).stop(), &[]);
        let file = open(&bytes).unwrap();
        let entry = &file.catalog().entries()[0];
        assert_eq!((entry.dtype(), entry.requires_grad()), (Dtype::BF16, true));
        let storage = MemoryStorage::new(bytes.clone());
        let found = resolve(&storage, file.catalog(), entry).unwrap();
        assert_eq!(found, [0xc0, 0x3f, 0x00, 0xc0]);

        let refused = [
            from_numpy([1.5, 0.1], "bfloat16", function),
            from_numpy(exact, "float16", function),
            from_numpy(exact, "int32", function),
        ];
        for pickle in refused {
            let error = zip(pickle).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let problem = problem(Err(error));
            assert!(matches!(problem, TensorProblem::Conversion { .. }));
        }
    }
    let cpu = |dtype| {
        let function = "_rebuild_device_tensor_from_cpu_tensor";
        let pickle = Pickle::new().global("torch._utils", function).raw(b"(");
        let pickle = pickle.vector("Int", "0", 4).global("torch", dtype);
        zip(pickle.text("maia:0").raw(b"\x89tR"))
    };
    assert!(cpu("int32").is_ok());
    assert!(matches!(
        problem(cpu("float32")),
        TensorProblem::Conversion { .. }
    ));
}

#[test]
fn keys_of_bytes_are_told_from_texts() {
    let pickle = element(Pickle::new().raw(b"}(").raw(b"C\x01w"), 0);
    let pickle = element(pickle.text("w"), 1).raw(b"u");
    let file = zip(pickle).unwrap();
    assert_eq!(names(&file), ["b'w'", "w"]);
    // Protocol 2 writes bytes as a call.
    let pickle = Pickle::new().raw(b"}").global("_codecs", "encode");
    let pickle = element(pickle.raw(b"(").text("é").text("latin1").raw(b"tR"), 0).raw(b"s");
    assert_eq!(names(&zip(pickle).unwrap()), [r"b'\xe9'"]);
    let (_, state) = zip(Pickle::new().raw(b"}C\x01wNs")).unwrap().into_parts();
    assert_eq!(state.summary(), r#"a dict with the key "b'w'""#);
}

#[test]
fn the_model_is_found_where_training_programs_put_it() {
    /// A dict of one scalar and one vector.
    fn dict(pickle: Pickle, prefix: &str) -> Pickle {
        let view = |shape| View {
            offset: 0,
            shape,
            strides: &[1],
        };
        let pickle = pickle.raw(b"}(").text(&format!("{prefix}weight"));
        let pickle = pickle.tensor("Int", "0", 4, view(&[4]));
        let pickle = pickle.text(&format!("{prefix}bias"));
        pickle.tensor("Int", "0", 4, view(&[2])).raw(b"u")
    }
    let scalar = |pickle: Pickle| {
        pickle.tensor(
            "Int",
            "0",
            4,
            View {
                offset: 0,
                shape: &[],
                strides: &[],
            },
        )
    };
    let begin = || Pickle::new().raw(b"}(");
    let cases = [
        (
            dict(scalar(begin().text("acc")).text("net"), ""),
            "net",
            vec![],
        ),
        (
            scalar(dict(begin().text("state_dict"), "").text("best")),
            "state_dict",
            vec![],
        ),
        (
            dict(begin().text("model"), "_orig_mod.module."),
            "model._orig_mod.module",
            vec![],
        ),
        (
            dict(dict(begin().text("ema"), "").text("model"), ""),
            "model",
            vec!["ema"],
        ),
        (
            dict(
                dict(begin().text("optimizer"), "").text("state_dict_ema"),
                "",
            ),
            "state_dict_ema",
            vec![],
        ),
        (
            dict(
                dict(begin().text("generator"), "").text("discriminator"),
                "",
            ),
            "",
            vec![],
        ),
    ];
    for (pickle, root, others) in cases {
        let file = zip(pickle.raw(b"u")).unwrap();
        assert_eq!(file.automatic_root().prefix(), root);
        let found = file
            .other_models()
            .iter()
            .map(tensorlift_format_torchzip::Root::prefix);
        assert_eq!(found.collect::<Vec<_>>(), others);
    }
}

#[test]
fn names_of_a_state_dict_come_before_private_lists() {
    let mut weight = 0;
    let pickle = Pickle::new().global("my", "Rnn").raw(b")\x81}(");
    let pickle = pickle.text("_flat_weights").raw(b"]").vector("Int", "0", 4);
    let pickle = pickle
        .put(&mut weight)
        .raw(b"a")
        .text("_parameters")
        .raw(b"}");
    let pickle = pickle.text("weight_ih_l0").get(weight).raw(b"s");
    let pickle = pickle
        .text("_buffers")
        .raw(b"}")
        .text("_modules")
        .raw(b"}ub");
    let file = zip(pickle).unwrap();
    assert_eq!(names(&file), ["_flat_weights.0", "weight_ih_l0"]);
    let ties = ties(file.catalog());
    assert_eq!(ties.len(), 1);
    assert_eq!((ties[0].kept, &ties[0].aliases[..]), (1, &[0][..]));
}
