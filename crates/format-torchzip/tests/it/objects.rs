//! Objects of every kind that PyTorch files hold, assembled opcode by opcode.

use tensorlift_format_torchzip::{Error, Format, Policy, ReadOptions, TorchFile, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Dtype, Entry, Source};

use crate::oracle::resolve;
use crate::write::{Pickle, View, archive};

const FOUR: [u8; 16] = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0];

fn open(bytes: &[u8]) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes.to_vec()), &ReadOptions::default())
}

/// Opens an archive of this pickle with the storage "0" of four integers.
fn with_four(pickle: Pickle) -> (Vec<u8>, TorchFile) {
    let bytes = archive("a", &pickle.stop(), &[("0", &FOUR)]);
    let file = open(&bytes).unwrap_or_else(|error| panic!("{error}"));
    (bytes, file)
}

fn names(file: &TorchFile) -> Vec<&str> {
    file.catalog().entries().iter().map(Entry::name).collect()
}

fn bytes_of(bytes: &[u8], file: &TorchFile, name: &str) -> Vec<u8> {
    let entry = file
        .catalog()
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    resolve(&MemoryStorage::new(bytes.to_vec()), file.catalog(), entry).unwrap()
}

fn four(pickle: Pickle) -> Pickle {
    pickle.vector("Int", "0", 4)
}

#[test]
fn keys_of_classes_of_their_own_are_kept_apart() {
    let key = |pickle: Pickle, text: &str| pickle.raw(b"cmy\nText\n(").text(text).raw(b"tR");
    let pickle = Pickle::new().raw(b"}(").text("my.Text(a)").int(1);
    let pickle = key(key(pickle, "a").int(2), "b").int(3);
    let file = open(&archive("a", &pickle.raw(b"u").stop(), &[])).unwrap();
    let state = file.state().unwrap().to_string();
    for pair in [
        r#""my.Text(a)": 1"#,
        r#""my.Text(a)#2": 2"#,
        r#""my.Text(b)": 3"#,
    ] {
        assert!(state.contains(pair), "{pair} in {state}");
    }
}

#[test]
fn keys_of_every_type_and_colliding_names() {
    let mut pickle = Pickle::new().raw(b"}(");
    let int = |pickle: Pickle| pickle.int(1);
    let keys: [&dyn Fn(Pickle) -> Pickle; 8] = [
        &int,
        &|pickle| pickle.text("1"),
        &|pickle| pickle.raw(b"N"),
        &|pickle| pickle.int(2).text("x").raw(b"\x86"),
        &|pickle| pickle.raw(b"B\x02\0\0\0by"),
        &|pickle| pickle.text("a.b"),
        &|pickle| pickle.text("\u{e9}"),
        &|pickle| pickle.raw(b"X\x03\0\0\0\xed\xb2\x80"),
    ];
    for key in keys {
        pickle = four(key(pickle));
    }
    let pickle = four(pickle.text("a").raw(b"}").text("b")).raw(b"su");
    let (_, file) = with_four(pickle);
    assert_eq!(
        names(&file),
        [
            "1", "1#2", "None", "(2, x)", "b'by'", "a.b", "é", "\\udc80", "a.b#2"
        ]
    );
}

#[test]
fn the_last_of_equal_keys_counts() {
    let pickle = Pickle::new().raw(b"}(").text("k").int(0);
    let pickle = four(pickle.text("j")).text("k");
    let pickle = four(pickle).raw(b"u");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["k", "j"]);
    let pickle = four(Pickle::new().raw(b"}(").text("k"))
        .text("k")
        .raw(b"Nu");
    let (_, file) = with_four(pickle);
    assert!(file.catalog().is_empty());
}

#[test]
fn shared_containers_are_named_along_every_path() {
    let mut shared = 0;
    let pickle = Pickle::new()
        .raw(b"}(")
        .text("a")
        .raw(b"}")
        .put(&mut shared);
    let pickle = four(pickle.text("x"))
        .raw(b"s")
        .text("b")
        .get(shared)
        .raw(b"u");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["a.x", "b.x"]);
    assert_eq!(file.catalog().records().len(), 1);
    assert!(!file.aliases_omitted());
}

#[test]
fn cycles_end() {
    let mut list = 0;
    let pickle = four(Pickle::new().raw(b"]").put(&mut list).get(list).raw(b"a")).raw(b"a");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["1"]);
    assert_eq!(
        file.state().unwrap().to_string(),
        r#"[{"$cycle": "list"}, {"$tensor": "1"}]"#
    );
}

#[test]
fn too_many_paths_still_list_every_tensor() {
    // Sixty lists of twice the one before make 2^60 paths to one tensor.
    let mut pickle = four(Pickle::new()).raw(b"q\0");
    for level in 0..60u8 {
        pickle = pickle.raw(&[
            b'0',
            b']',
            b'(',
            b'h',
            level,
            b'h',
            level,
            b'e',
            b'q',
            level + 1,
        ]);
    }
    let bytes = archive("a", &pickle.stop(), &[("0", &FOUR)]);
    let storage = MemoryStorage::new(bytes);
    let mut options = ReadOptions::default();
    options.limits.expanded_nodes = 10_000;
    let file = read(&storage, &options).unwrap();
    assert!(file.aliases_omitted());
    let zeros = ["0"; 60].join(".");
    let last = format!("{}.1", ["0"; 59].join("."));
    assert_eq!(names(&file), [zeros, last]);
}

#[test]
fn repeated_and_long_keys_count_as_paths() {
    // A dict of one key given often, and one of a long key, each at the end of 2^10 paths.
    let long = "k".repeat(50_000);
    let repeated = Pickle::new().raw(b"}(").raw(&b"K\0N".repeat(2000));
    let repeated = four(repeated.int(1)).raw(b"u");
    let long = four(Pickle::new().raw(b"}").text(&long)).raw(b"s");
    for dict in [repeated, long] {
        let mut pickle = dict.raw(b"q\0");
        for level in 0..10u8 {
            let (below, this) = (level, level + 1);
            pickle = pickle.raw(&[b'0', b']', b'(', b'h', below, b'h', below, b'e', b'q', this]);
        }
        let bytes = archive("a", &pickle.stop(), &[("0", &FOUR)]);
        let mut options = ReadOptions::default();
        options.limits.expanded_nodes = 10_000;
        let file = read(&MemoryStorage::new(bytes), &options).unwrap();
        assert!(file.aliases_omitted());
    }
}

#[test]
fn what_holds_no_tensor_is_entered_once_and_cycles_again() {
    // A list `a` of a list `b` and a tensor; `b` holds `a`, so that beneath `a` it seems empty.
    let pickle = Pickle::new().raw(b"]q\0](h\0]q\x01h\0ae");
    let pickle = four(pickle.raw(b"0h\0h\x01a")).raw(b"a0](h\0h\x01e");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["0.1", "1.0.1"]);
}

#[test]
fn modules_bear_the_names_of_their_state_dict() {
    let child = |pickle: Pickle| {
        let pickle = pickle
            .global("torch.nn.modules.linear", "Linear")
            .raw(b")\x81}(");
        let pickle = four(pickle.text("_parameters").raw(b"}(").text("weight"));
        pickle
            .text("bias")
            .raw(b"Nu")
            .text("_buffers")
            .raw(b"}")
            .text("_modules")
            .raw(b"}ub")
    };
    let pickle = Pickle::new().global("__main__", "Net").raw(b")\x81}(");
    let pickle = pickle
        .text("training")
        .raw(b"\x88")
        .text("_parameters")
        .raw(b"}");
    let pickle = four(pickle.text("_buffers").raw(b"}(").text("mean")).raw(b"u");
    let pickle = child(pickle.text("_modules").raw(b"}(").text("fc")).raw(b"uub");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["mean", "fc.weight"]);
    assert_eq!(file.automatic_root().prefix(), "");
}

#[test]
fn unknown_classes_are_inert_or_refused() {
    let pickle = Pickle::new().raw(b"}(").text("run").global("os", "system");
    let pickle = pickle.text("touch /tmp/x").raw(b"\x85R").text("w");
    let pickle = four(pickle).raw(b"u").stop();
    let bytes = archive("a", &pickle, &[("0", &FOUR)]);
    let file = open(&bytes).unwrap();
    assert_eq!(names(&file), ["w"]);
    assert!(
        file.state()
            .unwrap()
            .to_string()
            .contains(r#""$class": "os.system""#)
    );
    let mut options = ReadOptions::default();
    options.policy = Policy::Strict;
    let error = read(&MemoryStorage::new(bytes), &options).unwrap_err();
    assert!(error.to_string().contains("os.system"), "{error}");
    let pickle = Pickle::new()
        .raw(b"}")
        .text("w")
        .vector("Int", "0", 4)
        .raw(b"s")
        .stop();
    let plain = MemoryStorage::new(archive("a", &pickle, &[("0", &FOUR)]));
    assert_eq!(read(&plain, &options).unwrap().catalog().len(), 1);
}

#[test]
fn attributes_items_and_arguments_are_searched() {
    let pickle = Pickle::new().global("m", "C").raw(b"(");
    let pickle = four(pickle).raw(b"t\x81}(").text("attr");
    let pickle = four(pickle).raw(b"ub(");
    let pickle = four(pickle).raw(b"e(").text("key");
    let pickle = four(pickle).raw(b"u");
    let (_, file) = with_four(pickle);
    assert_eq!(names(&file), ["args.0", "attr", "0", "key"]);
    // Slots come as a pair of dicts.
    let pickle = Pickle::new().global("m", "S").raw(b")\x81N}").text("slot");
    let (_, file) = with_four(four(pickle).raw(b"s\x86b"));
    assert_eq!(names(&file), ["slot"]);
}

#[test]
fn parameters_subclasses_and_flags() {
    let pickle = Pickle::new().raw(b"}(").text("p");
    let pickle = four(
        pickle
            .global("torch._utils", "_rebuild_parameter_with_state")
            .raw(b"("),
    );
    let pickle = pickle.raw(b"\x88N}").text("tag");
    let pickle = four(pickle).raw(b"stR").text("s");
    let pickle = pickle
        .global("torch._tensor", "_rebuild_from_type_v2")
        .raw(b"(");
    let pickle = pickle
        .global("torch._utils", "_rebuild_tensor_v2")
        .global("m", "Sub")
        .raw(b"(");
    let pickle = pickle
        .storage("Int", "0", 4)
        .int(1)
        .sizes(&[2])
        .sizes(&[1])
        .raw(b"\x89Nt}");
    let (bytes, file) = with_four(four(pickle.text("extra")).raw(b"stRu"));
    assert_eq!(names(&file), ["p", "p.tag", "s", "s.extra"]);
    let grads: Vec<_> = file
        .catalog()
        .entries()
        .iter()
        .map(Entry::requires_grad)
        .collect();
    assert_eq!(grads, [true, false, false, false]);
    assert_eq!(bytes_of(&bytes, &file, "s"), FOUR[4..12]);
}

#[test]
fn sparse_quantized_and_meta_tensors() {
    let pickle = Pickle::new().raw(b"}(").text("coo");
    let pickle = pickle
        .global("torch._utils", "_rebuild_sparse_tensor")
        .raw(b"(");
    let pickle = pickle
        .global("torch.serialization", "_get_layout")
        .text("torch.sparse_coo");
    let pickle = four(four(pickle.raw(b"\x85R(")))
        .sizes(&[9])
        .raw(b"\x88ttR")
        .text("q");
    let pickle = pickle.global("torch._utils", "_rebuild_qtensor").raw(b"(");
    let pickle = pickle
        .storage("QInt32", "1", 4)
        .int(0)
        .sizes(&[4])
        .sizes(&[1])
        .raw(b"(");
    let pickle = pickle
        .global("torch", "per_tensor_affine")
        .raw(b"G\x3f\xe0\0\0\0\0\0\0")
        .int(7);
    let pickle = pickle.raw(b"t\x89NtR").text("m");
    let pickle = pickle
        .global("torch._utils", "_rebuild_meta_tensor_no_storage")
        .raw(b"(");
    let pickle = pickle
        .global("torch", "float16")
        .sizes(&[3, 2])
        .sizes(&[2, 1])
        .raw(b"\x88tRu");
    let bytes = archive("a", &pickle.stop(), &[("0", &FOUR), ("1", &FOUR)]);
    let file = open(&bytes).unwrap();
    assert_eq!(
        names(&file),
        [
            "coo.indices",
            "coo.values",
            "q",
            "q.scale",
            "q.zero_point",
            "m"
        ]
    );
    assert_eq!(file.catalog().get("q").unwrap().dtype(), Dtype::QInt32);
    assert_eq!(bytes_of(&bytes, &file, "q.scale"), 0.5f64.to_le_bytes());
    assert_eq!(bytes_of(&bytes, &file, "q.zero_point"), 7i64.to_le_bytes());
    let meta = file.catalog().get("m").unwrap();
    assert!(matches!(
        file.catalog().record(meta).source,
        Source::Absent { .. }
    ));
    let state = file.state().unwrap().to_string();
    assert!(
        state.contains(r#""indices": {"$tensor": "coo.indices"}"#),
        "{state}"
    );
    assert!(state.contains(r#""scale": 0.5"#), "{state}");
}

#[test]
fn what_stands_in_parts_of_sparse_tensors_is_named_by_the_part() {
    let pickle = Pickle::new().raw(b"}").text("coo");
    let pickle = pickle
        .global("torch._utils", "_rebuild_sparse_tensor")
        .raw(b"(")
        .global("torch.serialization", "_get_layout")
        .text("torch.sparse_coo")
        .raw(b"\x85R(]");
    let pickle = four(four(pickle).raw(b"a]")).raw(b"a").sizes(&[9]);
    let (_, file) = with_four(pickle.raw(b"\x88ttRs"));
    assert_eq!(names(&file), ["coo.indices.0", "coo.values.0"]);
}

#[test]
fn lazy_bits_are_kept() {
    let pickle = Pickle::new().raw(b"}").text("c");
    let pickle = pickle
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"(");
    let pickle = pickle
        .storage("ComplexFloat", "0", 2)
        .int(0)
        .sizes(&[2])
        .sizes(&[1]);
    let pickle = pickle
        .raw(b"\x89N}(")
        .text("conj")
        .raw(b"\x88")
        .text("neg")
        .raw(b"\x88u");
    let (bytes, file) = with_four(pickle.raw(b"tRs"));
    let mut expected = FOUR;
    // Minus the conjugate: only the real parts change their sign.
    expected[3] ^= 0x80;
    expected[11] ^= 0x80;
    assert_eq!(bytes_of(&bytes, &file, "c"), expected);
}

#[test]
fn arrays_lie_in_the_pickle_or_are_decoded() {
    let array = |pickle: Pickle, order: &str, fortran: &[u8], bytes: &dyn Fn(Pickle) -> Pickle| {
        let pickle = pickle.global("numpy.core.multiarray", "_reconstruct");
        let pickle = pickle
            .global("numpy", "ndarray")
            .raw(b"K\0\x85C\x01b\x87R(")
            .int(1);
        let pickle = pickle.sizes(&[2, 2]).global("numpy", "dtype").text("i4");
        let pickle = pickle
            .raw(b"\x89\x88\x87R(")
            .int(3)
            .text(order)
            .raw(b"NNN")
            .int(-1)
            .int(-1);
        bytes(pickle.int(0).raw(b"tb").raw(fortran)).raw(b"tb")
    };
    let raw = |pickle: Pickle| pickle.bytes(&FOUR);
    let pickle = array(Pickle::new().raw(b"}(").text("raw"), "<", b"\x89", &raw);
    let pickle = array(pickle.text("fortran"), "<", b"\x88", &raw);
    let pickle = array(pickle.text("big"), ">", b"\x89", &raw);
    let pickle = array(pickle.text("latin"), "<", b"\x89", &|pickle| {
        let text: String = FOUR.iter().map(|&byte| char::from(byte)).collect();
        pickle
            .global("_codecs", "encode")
            .text(&text)
            .text("latin1")
            .raw(b"\x86R")
    });
    let (bytes, file) = with_four(pickle.raw(b"u"));
    assert_eq!(names(&file), ["raw", "fortran", "big", "latin"]);
    let source = |name| {
        &file
            .catalog()
            .record(file.catalog().get(name).unwrap())
            .source
    };
    assert!(matches!(source("raw"), Source::Stored(_)));
    assert!(matches!(source("latin"), Source::Inline { .. }));
    assert_eq!(bytes_of(&bytes, &file, "raw"), FOUR);
    assert_eq!(bytes_of(&bytes, &file, "latin"), FOUR);
    let column_major: Vec<u8> = [0, 2, 1, 3]
        .iter()
        .flat_map(|&i| FOUR[4 * i..][..4].to_vec())
        .collect();
    assert_eq!(bytes_of(&bytes, &file, "fortran"), column_major);
    assert_eq!(bytes_of(&bytes, &file, "big")[..4], [0, 0, 0, 1]);
}

#[test]
fn state_fills_a_struct() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Training {
        epoch: u32,
        lr: f64,
        seed: String,
        betas: (f64, f64),
        dtype: String,
        best: Leaf,
    }
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Leaf {
        #[serde(rename = "$tensor")]
        tensor: String,
    }
    let pickle = Pickle::new().raw(b"}(").text("epoch").int(3).text("lr");
    let pickle = pickle.raw(b"G\x3f\xe0\0\0\0\0\0\0").text("seed");
    let pickle = pickle.raw(b"\x8a\x09\0\0\0\0\0\0\0\0\x01").text("betas");
    let pickle = pickle
        .raw(b"G\x3f\xe0\0\0\0\0\0\0G\x3f\xf0\0\0\0\0\0\0\x86")
        .text("dtype");
    let pickle = four(pickle.global("torch", "float16").text("best"));
    let (_, file) = with_four(
        pickle
            .text("unread")
            .raw(b"\x8a\x09\xff\0\0\0\0\0\0\0\x01u"),
    );
    let training: Training = serde_pickle::from_value(file.state().unwrap()).unwrap();
    assert_eq!(
        training,
        Training {
            epoch: 3,
            lr: 0.5,
            seed: "18446744073709551616".to_owned(),
            betas: (0.5, 1.0),
            dtype: "torch.float16".to_owned(),
            best: Leaf {
                tensor: "best".to_owned()
            },
        }
    );
}

#[test]
fn plain_forms_of_known_objects() {
    let pickle = Pickle::new().raw(b"(");
    let pickle = pickle.global("torch", "Size").sizes(&[2, 3]).raw(b"\x85R");
    let pickle = pickle
        .global("torch", "device")
        .text("cuda")
        .int(1)
        .raw(b"\x86R");
    let pickle = pickle.global("builtins", "complex");
    let pickle = pickle.raw(b"G\x3f\xf0\0\0\0\0\0\0G\x3f\xe0\0\0\0\0\0\0\x86R");
    let pickle = pickle
        .global("decimal", "Decimal")
        .text("1.5")
        .raw(b"\x85R");
    let pickle = pickle
        .global("pathlib", "PosixPath")
        .text("/")
        .text("a")
        .raw(b"\x86R");
    let pickle = pickle
        .global("collections", "deque")
        .raw(b")R(")
        .int(1)
        .int(2)
        .raw(b"e");
    let pickle = pickle
        .global("builtins", "bytearray")
        .raw(b"B\x02\0\0\0ab\x85R");
    let pickle = pickle
        .global("_codecs", "encode")
        .text("\u{ff}")
        .text("latin1")
        .raw(b"\x86R");
    let pickle = pickle.global("numpy.core.multiarray", "scalar");
    let pickle = pickle
        .global("numpy", "dtype")
        .text("i2")
        .raw(b"\x89\x88\x87R");
    let pickle = pickle.bytes(&[0xfe, 0xff]).raw(b"\x86R");
    let pickle = pickle
        .global("collections", "Counter")
        .raw(b"}")
        .text("k")
        .int(2)
        .raw(b"s\x85R");
    let pickle = pickle.global("m", "Color").int(1).raw(b"\x85R");
    let pickle = pickle
        .global("argparse", "Namespace")
        .raw(b")\x81}")
        .text("lr")
        .int(3);
    let (_, file) = with_four(pickle.raw(b"sb\x8f(").int(7).raw(b"\x90t"));
    let state = file.state().unwrap().to_string();
    let expected = [
        r#"(2, 3)"#,
        r#""cuda:1""#,
        r#"(1, 0.5)"#,
        r#""1.5""#,
        r#""/a""#,
        r#"[1, 2]"#,
        r#"b[97, 98]"#,
        r#"b[255]"#,
        r#"-2"#,
        r#"{"k": 2}"#,
        r#"{"$args": [1], "$class": "m.Color"}"#,
        r#"{"$class": "argparse.Namespace", "lr": 3}"#,
    ];
    for text in expected {
        assert!(state.contains(text), "{text} is not in {state}");
    }
}

#[test]
fn storages_and_tensors_can_be_the_whole_file() {
    let (bytes, file) = with_four(four(Pickle::new()));
    assert_eq!(names(&file), ["tensor"]);
    assert_eq!(bytes_of(&bytes, &file, "tensor"), FOUR);
    let (bytes, file) = with_four(Pickle::new().storage("Int", "0", 4));
    assert_eq!(file.catalog().entries()[0].shape(), [4]);
    assert_eq!(bytes_of(&bytes, &file, "tensor"), FOUR);
}

#[test]
fn torchscript_archives_have_attributes_and_constants() {
    let main = Pickle::new().global("__torch__", "Net").raw(b")\x81}(");
    let main = four(main.text("weight")).text("list");
    let main = main
        .global("torch.jit._pickle", "restore_type_tag")
        .raw(b"(](");
    let main = four(main)
        .raw(b"e")
        .text("List[Tensor]")
        .raw(b"tRub")
        .stop();
    let constants = Pickle::new()
        .raw(b"(")
        .vector("Byte", "0", 3)
        .raw(b"t")
        .stop();
    let entries: [(&str, &[u8]); 5] = [
        ("data.pkl", &main),
        ("data/0", &FOUR),
        ("constants/0", b"abc"),
        ("constants.pkl", &constants),
        ("code/__torch__.py", b"class Net(Module):"),
    ];
    let bytes = crate::write::entries_under("net", &entries, crate::write::stored());
    let file = open(&bytes).unwrap();
    assert_eq!(file.format(), Format::TorchScript);
    assert_eq!(names(&file), ["weight", "list.0", "constants.0"]);
    assert_eq!(bytes_of(&bytes, &file, "constants.0"), b"abc");
    assert_eq!(bytes_of(&bytes, &file, "list.0"), FOUR);
}

#[test]
fn views_beyond_the_storage_and_strange_sizes() {
    let refused = |view: View<'_>| {
        let pickle = Pickle::new().tensor("Int", "0", 4, view).stop();
        open(&archive("a", &pickle, &[("0", &FOUR)]))
            .unwrap_err()
            .to_string()
    };
    let view = |offset, shape, strides| View {
        offset,
        shape,
        strides,
    };
    assert!(refused(view(1, &[4], &[1])).contains("bytes 4..20 of a storage of 16"));
    assert!(refused(view(-1, &[4], &[1])).contains("storage offset"));
    assert!(refused(view(0, &[-4], &[1])).contains("a shape"));
    assert!(refused(view(0, &[2], &[-1])).contains("strides"));
    assert!(refused(view(0, &[2], &[1, 1])).contains("strides"));
    assert!(refused(view(0, &[1 << 40, 1 << 40], &[1 << 40, 1])).contains("elements"));
    assert!(refused(view(0, &[2], &[i64::MAX])).contains("storage"));
    assert!(refused(view(i64::MAX, &[1], &[1])).contains("storage"));
    assert!(refused(view(0, &[1; 65], &[1; 65])).contains("65 dimensions"));
    let huge = Pickle::new()
        .tensor("Int", "0", 4, view(3, &[1 << 40], &[0]))
        .stop();
    let file = open(&archive("a", &huge, &[("0", &FOUR)])).unwrap();
    assert_eq!(file.catalog().entries()[0].byte_len(), 1 << 42);
    let nothing = Pickle::new()
        .tensor("Int", "0", 4, view(9, &[0, 5], &[5, 1]))
        .stop();
    assert!(open(&archive("a", &nothing, &[("0", &FOUR)])).is_ok());
}
