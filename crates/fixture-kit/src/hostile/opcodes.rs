use super::parts::{file_of, state, state_with, weight, weight_pickle};
use super::{Case, Group};
use crate::pickle::Writer;

/// Adds pickles that no pickler writes: stacks that run empty, arguments that are cut, opcodes
/// that do not exist, values of the wrong kind.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "pickle",
        file_name: "pytorch_model.bin",
        all,
    };
    empty_stack(&mut group);
    cut_arguments(&mut group);
    unknown(&mut group);
    wrong_kinds(&mut group);
    numbers(&mut group);
    protocols(&mut group);
    memo(&mut group);
    damage(&mut group);
}

/// A file with this as its whole pickle but for the protocol and STOP.
fn only(bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(2);
    writer.raw(bytes);
    file_of(&writer.finish())
}

fn empty_stack(group: &mut Group<'_>) {
    // Every opcode that takes something from the stack, on an empty one.
    for (name, bytes) in [
        ("stop", b"".as_slice()),
        ("pop", b"0"),
        ("pop-mark", b"1"),
        ("dup", b"2"),
        ("append", b"a"),
        ("appends", b"e"),
        ("setitem", b"s"),
        ("setitems", b"u"),
        ("additems", b"\x90"),
        ("tuple", b"t"),
        ("tuple1", b"\x85"),
        ("tuple2", b"\x86"),
        ("tuple3", b"\x87"),
        ("list", b"l"),
        ("dict", b"d"),
        ("frozenset", b"\x91"),
        ("put", b"p0\n"),
        ("binput", b"q\0"),
        ("long-binput", b"r\0\0\0\0"),
        ("memoize", b"\x94"),
        ("reduce", b"R"),
        ("build", b"b"),
        ("inst", b"ios\nsystem\n"),
        ("obj", b"o"),
        ("newobj", b"\x81"),
        ("newobj-ex", b"\x92"),
        ("stack-global", b"\x93"),
        ("binpersid", b"Q"),
        ("readonly-buffer", b"\x98"),
        ("next-buffer", b"\x97"),
    ] {
        let why = format!("{name} finds nothing on the stack");
        group.refused(&format!("empty-{name}"), &why, move || only(bytes));
    }
    // And with one value too few, or without a mark.
    for (name, bytes) in [
        ("tuple2", b"N\x86".as_slice()),
        ("tuple3", b"NN\x87"),
        ("append", b"Na"),
        ("setitem", b"}Ns"),
        ("reduce", b"cos\nsystem\nR"),
        ("build", b"}b"),
        ("newobj", b"cos\nsystem\n\x81"),
        ("newobj-ex", b"cos\nsystem\n)\x92"),
        ("stack-global", b"X\x02\0\0\0os\x93"),
        ("tuple", b"NNt"),
        ("list", b"NNl"),
        ("dict", b"NNd"),
        ("setitems", b"}NNu"),
        ("appends", b"]NNe"),
        ("obj", b"(o"),
        ("pop-past-mark", b"(00"),
    ] {
        let why = format!("{name} finds too little on the stack");
        group.refused(&format!("short-{name}"), &why, move || only(bytes));
    }
    group.refused("odd-items", "SETITEMS finds a key without a value", || {
        only(b"}(Nu")
    });
    group.refused("odd-dict", "DICT finds a key without a value", || {
        only(b"(Nd")
    });
    group.refused("only-mark", "STOP finds a mark", || only(b"("));
}

fn cut_arguments(group: &mut Group<'_>) {
    for (name, bytes) in [
        ("binint", b"J\x01\x02".as_slice()),
        ("binint1", b"K"),
        ("binint2", b"M\x01"),
        ("int", b"I12"),
        ("long", b"L12"),
        ("long1", b"\x8a\x09\x01"),
        ("long4", b"\x8b\x09\0\0\0\x01"),
        ("long4-length", b"\x8b\x09"),
        ("float", b"F1.5"),
        ("binfloat", b"G\0\0\0"),
        ("string", b"S'abc"),
        ("binstring", b"T\x09\0\0\0a"),
        ("short-binstring", b"U\x09a"),
        ("unicode", b"Vabc"),
        ("binunicode", b"X\x09\0\0\0a"),
        ("binunicode8", b"\x8d\x09\0\0\0\0\0\0\0a"),
        ("short-binunicode", b"\x8c\x09a"),
        ("binbytes", b"B\x09\0\0\0a"),
        ("binbytes8", b"\x8e\x09\0\0\0\0\0\0\0a"),
        ("short-binbytes", b"C\x09a"),
        ("bytearray8", b"\x96\x09\0\0\0\0\0\0\0a"),
        ("global", b"cos"),
        ("inst", b"(ios\n"),
        ("persid", b"P0"),
        ("put", b"Np"),
        ("binput", b"Nq"),
        ("long-binput", b"Nr\0\0"),
        ("get", b"g"),
        ("binget", b"h"),
        ("long-binget", b"j\0\0"),
        ("ext1", b"\x82"),
        ("ext4", b"\x84\0"),
        ("proto", b"\x80"),
        ("frame", b"\x95\x01\0"),
    ] {
        let why = format!("the pickle ends within the argument of {name}");
        group.refused(&format!("cut-{name}"), &why, move || {
            let mut writer = Writer::new(2);
            writer.raw(bytes);
            file_of(&writer.unfinished())
        });
    }
    for (name, bytes) in [
        ("binunicode", b"X\xff\xff\xff\xff".as_slice()),
        ("binunicode-signed", b"X\0\0\0\x80"),
        ("binstring-negative", b"T\xff\xff\xff\xff"),
        ("binbytes", b"B\xff\xff\xff\x7f"),
        ("binunicode8", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("binunicode8-signed", b"\x8d\0\0\0\0\0\0\0\x80"),
        ("binbytes8", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("binbytes8-wraps", b"\x8e\xf0\xff\xff\xff\xff\xff\xff\xff"),
        ("bytearray8", b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("long4", b"\x8b\xff\xff\xff\x7f"),
        ("long4-negative", b"\x8b\xff\xff\xff\xff"),
    ] {
        let why = format!("{name} declares far more bytes than there are");
        group.refused(&format!("long-{name}"), &why, move || only(bytes));
    }
    group.refused("no-stop", "the pickle does not stop", || {
        let mut pickle = state();
        pickle.pop();
        file_of(&pickle)
    });
}

fn unknown(group: &mut Group<'_>) {
    for opcode in [0x00u8, 0x01, 0x20, 0x21, 0x7f, 0x99, 0x9a, 0xa0, 0xfe, 0xff] {
        let why = format!("no opcode is {opcode:#04x}");
        group.refused(&format!("opcode-{opcode:02x}"), &why, move || {
            let mut pickle = vec![0x80, 2, opcode];
            pickle.extend_from_slice(&state()[2..]);
            file_of(&pickle)
        });
    }
}

fn wrong_kinds(group: &mut Group<'_>) {
    for (kind, push) in [
        ("none", b"N".as_slice()),
        ("int", b"K\x01"),
        ("text", b"X\x01\0\0\0a"),
        ("tuple", b")"),
        ("list", b"]"),
    ] {
        let why = format!("SETITEM on a value of the kind {kind}");
        group.refused(&format!("setitem-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).text("k").int(1).op(b's');
            }))
        });
        let why = format!("SETITEMS on a value of the kind {kind}");
        group.refused(&format!("setitems-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).mark().text("k").int(1).set_items();
            }))
        });
    }
    group.refused("setitem-tensor", "SETITEM on a tensor", || {
        file_of(&state_with(2, |writer| {
            weight_pickle().write(writer);
            writer.text("k").int(1).op(b's');
        }))
    });
    for (kind, push) in [
        ("none", b"N".as_slice()),
        ("int", b"K\x01"),
        ("text", b"X\x01\0\0\0a"),
        ("tuple", b")"),
        ("dict", b"}"),
    ] {
        let why = format!("APPEND to a value of the kind {kind}");
        group.refused(&format!("append-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).int(1).op(b'a');
            }))
        });
    }
    for (kind, push) in [
        ("none", b"N".as_slice()),
        ("int", b"K\x01"),
        ("text", b"X\x01\0\0\0a"),
        ("tuple", b")"),
        ("list", b"]"),
        ("dict", b"}"),
    ] {
        let why = format!("a value of the kind {kind} is called");
        group.either(&format!("reduce-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).empty_tuple().reduce();
            }))
        });
        let why = format!("BUILD on a value of the kind {kind}");
        group.either(&format!("build-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).empty_dict().build();
            }))
        });
        let why = format!("NEWOBJ on a value of the kind {kind}");
        group.either(&format!("newobj-{kind}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(push).empty_tuple().op(0x81);
            }))
        });
    }
    group.either("build-tensor", "BUILD on a tensor", || {
        file_of(&state_with(2, |writer| {
            weight_pickle().write(writer);
            writer.empty_dict().text("weight").none().op(b's').build();
        }))
    });
    group.either(
        "build-ordered-dict",
        "BUILD gives an OrderedDict attributes with the names of its keys",
        || {
            let mut writer = Writer::new(2);
            writer
                .global("collections", "OrderedDict")
                .empty_tuple()
                .reduce();
            writer.text("weight");
            weight_pickle().write(&mut writer);
            writer
                .op(b's')
                .empty_dict()
                .text("weight")
                .none()
                .op(b's')
                .build();
            file_of(&writer.finish())
        },
    );
    group.loads(
        "ordered-dict-arguments",
        "an OrderedDict has its items as an argument, as Python 2 wrote it",
        weight(),
        || {
            let mut writer = Writer::new(2);
            writer
                .global("collections", "OrderedDict")
                .empty_list()
                .empty_list();
            writer.text("weight").op(b'a');
            weight_pickle().write(&mut writer);
            writer.op(b'a').op(b'a').tuple_of(1).reduce();
            file_of(&writer.finish())
        },
    );
    group.loads(
        "sets",
        "sets and frozen sets are beside the tensor",
        weight(),
        || {
            file_of(&state_with(4, |writer| {
                writer.op(0x8f).mark().int(1).op(0x90);
                writer.mark().int(2).op(0x91).tuple_of(2);
            }))
        },
    );
}

fn numbers(group: &mut Group<'_>) {
    for (name, bytes) in [
        ("int-text", b"Iabc\n".as_slice()),
        ("int-empty", b"I\n"),
        ("long-text", b"Labc\n"),
        ("float-text", b"Fabc\n"),
        ("string-quotes", b"S'abc\"\n"),
        ("string-bare", b"Sabc\n"),
        ("get-text", b"gabc\n"),
        ("put-negative", b"Np-1\n"),
    ] {
        let why = format!("the argument of an opcode is not a number, or no string: {name}");
        group.refused(name, &why, move || only(bytes));
    }
    for (name, why, bytes) in [
        ("long-255", "an integer of 255 bytes", {
            let mut bytes = vec![0x8a, 255];
            bytes.extend_from_slice(&[0x55; 255]);
            bytes
        }),
        ("long-zero", "an integer of no bytes", vec![0x8a, 0]),
        (
            "int-text-long",
            "an integer in text",
            b"L12345678901234567890123L\n".to_vec(),
        ),
        ("float-text-nan", "not a number in text", b"Fnan\n".to_vec()),
        (
            "binfloat-infinite",
            "infinity",
            b"G\x7f\xf0\0\0\0\0\0\0".to_vec(),
        ),
        ("bool-text", "a truth value in text", b"I01\n".to_vec()),
        (
            "string-escapes",
            "a string of Python 2 with escapes",
            b"S'a\\x41\\n\\''\n".to_vec(),
        ),
        (
            "unicode-escapes",
            "a string in text with escapes",
            b"Va\\u0041\\U0001f980\n".to_vec(),
        ),
        (
            "lone-surrogate",
            "a lone surrogate",
            b"X\x03\0\0\0\xed\xa0\x80".to_vec(),
        ),
    ] {
        group.loads(name, why, weight(), move || {
            file_of(&state_with(2, |writer| {
                writer.raw(&bytes);
            }))
        });
    }
    for (name, why, bytes) in [
        ("long4-100000", "an integer of 100,000 bytes", {
            let mut bytes = vec![0x8b];
            bytes.extend_from_slice(&100_000u32.to_le_bytes());
            bytes.extend_from_slice(&[0x55; 100_000]);
            bytes
        }),
        (
            "long-text-1000000",
            "an integer of 1,000,000 digits in text",
            {
                let mut bytes = b"L".to_vec();
                bytes.extend_from_slice(&[b'9'; 1_000_000]);
                bytes.extend_from_slice(b"L\n");
                bytes
            },
        ),
        ("float-text-long", "a float of 1,000,000 digits in text", {
            let mut bytes = b"F0.".to_vec();
            bytes.extend_from_slice(&[b'1'; 1_000_000]);
            bytes.push(b'\n');
            bytes
        }),
        (
            "text-not-utf8",
            "a string that is not UTF-8",
            b"X\x02\0\0\0\xff\xfe".to_vec(),
        ),
        (
            "unicode-bad-escape",
            "a string in text with a bad escape",
            b"Va\\u12\n".to_vec(),
        ),
    ] {
        group.either(name, why, move || {
            file_of(&state_with(2, |writer| {
                writer.raw(&bytes);
            }))
        });
    }
}

fn protocols(group: &mut Group<'_>) {
    for protocol in [0u8, 1, 6, 127, 255] {
        let why = format!("the pickle says that it is of protocol {protocol}");
        group.either(&format!("protocol-{protocol}"), &why, move || {
            let mut pickle = state();
            pickle[1] = protocol;
            file_of(&pickle)
        });
    }
    group.either(
        "protocol-missing",
        "the pickle does not say its protocol",
        || file_of(&state()[2..]),
    );
    group.either(
        "protocol-twice",
        "the protocol is said again, in the middle",
        || {
            file_of(&state_with(2, |writer| {
                writer.raw(b"\x80\x04").none();
            }))
        },
    );
    for (name, len) in [
        ("frame-short", 1u64),
        ("frame-long", 1 << 20),
        ("frame-max", u64::MAX),
    ] {
        let why = format!("a frame is declared to have {len} bytes");
        group.either(name, &why, move || {
            let mut pickle = vec![0x80, 4, 0x95];
            pickle.extend_from_slice(&len.to_le_bytes());
            pickle.extend_from_slice(&state()[2..]);
            file_of(&pickle)
        });
    }
    group.either(
        "frames-nested",
        "1,000 frames begin within each other",
        || {
            let mut pickle = vec![0x80, 4];
            for _ in 0..1000 {
                pickle.push(0x95);
                pickle.extend_from_slice(&8u64.to_le_bytes());
            }
            pickle.extend_from_slice(&state()[2..]);
            file_of(&pickle)
        },
    );
    group.either("stack-left", "values are left on the stack", || {
        let mut pickle = b"\x80\x02NNN".to_vec();
        pickle.extend_from_slice(&state()[2..]);
        file_of(&pickle)
    });
    group.either("behind-stop", "1,000 bytes follow the pickle", || {
        let mut pickle = state();
        pickle.extend_from_slice(&[0xff; 1000]);
        file_of(&pickle)
    });
    group.refused("root-none", "the pickle is None", || only(b"N"));
    group.refused("root-number", "the pickle is a number", || only(b"K\x07"));
    group.refused("root-empty-dict", "the pickle is an empty dict", || {
        only(b"}")
    });
    group.refused("root-text", "the pickle is a string", || {
        only(b"X\x01\0\0\0a")
    });
    group.refused("bare", "a pickle of numbers without an archive", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().text("epoch").int(3).op(b's');
        writer.finish()
    });
}

fn memo(group: &mut Group<'_>) {
    for (name, bytes) in [
        ("get-missing", b"h\x07".as_slice()),
        ("get-missing-long", b"j\xff\xff\xff\xff"),
        ("get-missing-text", b"g99999999999999999999\n"),
        ("get-of-other", b"Nq\0h\x01"),
    ] {
        group.refused(
            name,
            "a value is fetched from a slot that is empty",
            move || only(bytes),
        );
    }
    for (name, slot) in [
        ("put-far", u32::MAX),
        ("put-signed", 1 << 31),
        ("put-million", 1_000_000),
    ] {
        let why = format!("a value is kept in slot {slot} and fetched from there");
        group.either(name, &why, move || {
            file_of(&state_with(2, |writer| {
                writer.none().op(b'r').raw(&slot.to_le_bytes());
                writer.op(b'0').op(b'j').raw(&slot.to_le_bytes());
            }))
        });
    }
    group.either(
        "put-text-far",
        "a value is kept in slot 99999999999999999999",
        || {
            file_of(&state_with(2, |writer| {
                writer.none().raw(b"p99999999999999999999\n");
            }))
        },
    );
    group.loads(
        "put-again",
        "a slot is filled again and again",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                for number in 0..1000 {
                    writer.int(number).put(9).op(b'0');
                }
                writer.get(9);
            }))
        },
    );
    group.loads(
        "slots-skipped",
        "slots are filled out of order",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer.int(1).put(200).int(2).put(100).int(3).put(150);
                writer
                    .op(b'0')
                    .op(b'0')
                    .op(b'0')
                    .get(200)
                    .get(100)
                    .tuple_of(2);
            }))
        },
    );
}

fn damage(group: &mut Group<'_>) {
    // The archive is sound, the pickle in it is not.
    let whole = state();
    for cut in (9..whole.len()).step_by(9) {
        let whole = whole.clone();
        let why = format!("the pickle ends after {cut} bytes");
        group.refused(&format!("ends-{cut}"), &why, move || file_of(&whole[..cut]));
    }
    for round in 0..48u64 {
        let whole = whole.clone();
        let random = crate::content::stream(0x9c1e, round);
        let place = (random % whole.len() as u64) as usize;
        let byte = (random >> 32) as u8;
        let why = format!("byte {place} of the pickle is {byte:#04x}");
        group.either(&format!("byte-{round}"), &why, move || {
            let mut pickle = whole.clone();
            pickle[place] = byte;
            file_of(&pickle)
        });
    }
}
