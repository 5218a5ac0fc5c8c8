use super::parts::{Odd, archive, cuts, weight, weight_bytes};
use super::{CANARY, Case, Group};
use crate::pickle::Writer;
use crate::torch::{TensorPickle, legacy_key_list, legacy_preamble};

/// Adds files of the formats before 1.6: five pickles and storages.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "legacy",
        file_name: "pytorch_model.bin",
        all,
    };
    sound(&mut group);
    heads(&mut group);
    storages(&mut group);
    views(&mut group);
    damage(&mut group);
}

/// The pieces of a legacy file.
struct Parts {
    head: Vec<u8>,
    object: Vec<u8>,
    keys: Vec<u8>,
    storages: Vec<u8>,
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.object, &self.keys, &self.storages].concat()
    }
}

fn parts() -> Parts {
    Parts {
        head: legacy_preamble(2),
        object: object(4, |writer| {
            writer.none();
        }),
        keys: legacy_key_list(2, &["7"]),
        storages: storage(4, &weight_bytes()),
    }
}

fn file(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = parts();
    change(&mut parts);
    parts.bytes()
}

/// The pickle of the state dict, whose storage has `count` elements and this view metadata.
fn object(count: i64, view: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(2);
    writer.empty_dict().mark().text("weight");
    TensorPickle::float("7", &[2, 2]).write_with(&mut writer, |writer, tensor| {
        writer
            .mark()
            .text("storage")
            .global("torch", "FloatStorage");
        writer.text(&tensor.key).text("cpu").int(count);
        view(writer);
        writer.tuple().persistent_id();
    });
    writer.set_items();
    writer.finish()
}

/// The pickle of two tensors, each of two elements of the storage under the key of a view.
fn two_views(views: [(&str, i64); 2]) -> Vec<u8> {
    pickled(|writer| {
        writer.empty_dict().mark();
        for (name, (key, offset)) in ["a", "b"].into_iter().zip(views) {
            writer.text(name);
            TensorPickle::float("7", &[2]).write_with(writer, |writer, tensor| {
                writer
                    .mark()
                    .text("storage")
                    .global("torch", "FloatStorage");
                writer.text(&tensor.key).text("cpu").int(4);
                writer.text(key).int(offset).int(2).tuple_of(3);
                writer.tuple().persistent_id();
            });
        }
        writer.set_items();
    })
}

pub(super) fn storage(count: i64, bytes: &[u8]) -> Vec<u8> {
    let mut storage = count.to_le_bytes().to_vec();
    storage.extend_from_slice(bytes);
    storage
}

pub(super) fn pickled(push: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(2);
    push(&mut writer);
    writer.finish()
}

fn sound(group: &mut Group<'_>) {
    group.loads("plain", "nothing is wrong", weight(), || parts().bytes());
    group.loads(
        "big-endian-machine",
        "the machine is declared to be big-endian, which PyTorch ignores",
        weight(),
        || {
            file(|parts| {
                let machine = pickled(|writer| {
                    writer
                        .empty_dict()
                        .mark()
                        .text("protocol_version")
                        .int(1001);
                    writer
                        .text("little_endian")
                        .bool(false)
                        .text("type_sizes")
                        .empty_dict()
                        .set_items();
                });
                let head = legacy_preamble(2);
                let first = head.windows(2).rposition(|window| window == [0x80, 2]);
                parts.head = head[..first.expect("the third pickle")].to_vec();
                parts.head.extend(machine);
            })
        },
    );
    group.loads(
        "unused-storage-first",
        "the storages lie in the order of the list, not of their use",
        weight(),
        || {
            file(|parts| {
                let mut writer = Writer::new(2);
                writer.empty_dict().mark();
                for (name, key) in [("weight", "7"), ("weight2", "3")] {
                    writer.text(name);
                    legacy_tensor(&mut writer, key, 4);
                }
                writer.set_items();
                // The second name is dropped again, its storage stays.
                let object = writer.finish();
                parts.object = drop_second(&object);
                parts.keys = legacy_key_list(2, &["3", "7"]);
                parts.storages = storage(4, &[9; 16]);
                parts.storages.extend(storage(4, &weight_bytes()));
            })
        },
    );
    for (name, why, behind) in [
        ("trailing", "1,000 zeros follow the storages", vec![0; 1000]),
        (
            "trailing-line",
            "a line end follows the storages",
            b"\n".to_vec(),
        ),
    ] {
        group.loads(name, why, weight(), move || {
            file(|parts| parts.storages.extend_from_slice(&behind))
        });
    }
    group.refused("second-file", "another file follows the storages", || {
        let mut bytes = parts().bytes();
        bytes.extend(parts().bytes());
        bytes
    });
    group.refused(
        "second-archive",
        "a zip archive follows the storages",
        || file(|parts| parts.storages.extend_from_slice(&archive().bytes())),
    );
    group.refused("second-pickle", "a pickle follows the storages", || {
        file(|parts| parts.storages.extend(parts.object.clone()))
    });
    group.refused(
        "key-unknown",
        "a storage is listed that no tensor uses",
        || {
            file(|parts| {
                parts.keys = legacy_key_list(2, &["7", "8"]);
                parts.storages.extend(storage(1, &[0; 4]));
            })
        },
    );
    group.refused("key-twice", "a storage is listed twice", || {
        file(|parts| {
            parts.keys = legacy_key_list(2, &["7", "7"]);
            parts.storages.extend(storage(4, &[0; 16]));
        })
    });
    group.either("module", "a class comes with harmful source", || {
        file(|parts| {
            let mut writer = Writer::new(2);
            writer.empty_dict().mark().text("weight");
            legacy_tensor(&mut writer, "7", 4);
            writer
                .text("net")
                .mark()
                .text("module")
                .global("my.net", "Net");
            writer
                .text("net.py")
                .text(&format!("open('{CANARY}', 'w')"))
                .tuple();
            writer.persistent_id().set_items();
            parts.object = writer.finish();
        })
    });
}

/// The pickle with its last item, name and tensor, popped before the dict is filled.
fn drop_second(object: &[u8]) -> Vec<u8> {
    let (head, tail) = object.split_at(object.len() - 2);
    assert_eq!(tail, b"u.");
    let mut object = head.to_vec();
    object.extend_from_slice(b"00u.");
    object
}

fn legacy_tensor(writer: &mut Writer, key: &str, count: i64) {
    TensorPickle::float(key, &[2, 2]).write_with(writer, |writer, tensor| {
        writer
            .mark()
            .text("storage")
            .global("torch", "FloatStorage");
        writer
            .text(&tensor.key)
            .text("cpu")
            .int(count)
            .none()
            .tuple()
            .persistent_id();
    });
}

/// The magic number in other forms than PyTorch's, before the rest of a sound file.
const MAGICS: [(&str, &[u8]); 5] = [
    (
        "high-zeros",
        b"\x80\x02\x8a\x0cl\xfc\x9cF\xf9 j\xa8P\x19\0\0.",
    ),
    ("long4", b"\x80\x02\x8b\x0a\0\0\0l\xfc\x9cF\xf9 j\xa8P\x19."),
    (
        "framed",
        b"\x80\x04\x95\x0e\0\0\0\0\0\0\0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\x94.",
    ),
    ("text", b"L119547037146038801333356L\n."),
    ("digits", b"I119547037146038801333356\n."),
];

/// Where the second pickle begins, behind that of the magic number.
const MAGIC_BYTES: usize = 15;

fn heads(group: &mut Group<'_>) {
    for (name, magic) in MAGICS {
        let why = "the magic number is written in another way";
        group.loads(&format!("magic-{name}"), why, weight(), move || {
            file(|parts| {
                parts.head.splice(..MAGIC_BYTES, magic.iter().copied());
            })
        });
    }
    for bit in (0..80).step_by(7) {
        let why = format!("bit {bit} of the magic number differs");
        group.refused(&format!("magic-bit-{bit}"), &why, move || {
            file(|parts| parts.head[4 + bit / 8] ^= 1 << (bit % 8))
        });
    }
    for (name, pickle) in [
        ("none", &b"\x80\x02N."[..]),
        ("number", b"\x80\x02K\x03."),
        ("text", b"\x80\x02X\x03\0\0\0abc."),
        ("bytes", b"\x80\x03C\x03abc."),
    ] {
        let why = format!("the file is a pickled {name}, which holds nothing");
        group.refused(&format!("bare-{name}"), &why, move || pickle.to_vec());
    }
    group.refused("bare-twice", "two pickles follow each other", || {
        let pickle = object(4, |writer| {
            writer.none();
        });
        [&pickle[..], &pickle].concat()
    });
    group.refused("magic-wrong", "the magic number differs", || {
        file(|parts| parts.head[5] ^= 1)
    });
    group.refused("magic-only", "the magic number alone", || {
        legacy_preamble(2)[..15].to_vec()
    });
    group.refused("version-wrong", "the version is 1002", || {
        file(|parts| {
            let version = pickled(|writer| {
                writer.int(1001);
            });
            let place = parts
                .head
                .windows(version.len())
                .position(|window| window == version);
            parts.head[place.expect("the version") + 3] ^= 3;
        })
    });
    group.refused("head-only", "the three pickles at the start alone", || {
        legacy_preamble(2)
    });
    group.refused("object-number", "the object is a number", || {
        file(|parts| {
            parts.object = pickled(|writer| {
                writer.int(3);
            });
            parts.keys = legacy_key_list(2, &[]);
            parts.storages.clear();
        })
    });
    group.refused(
        "object-system",
        "the object is what os.system returns",
        || {
            file(|parts| {
                parts.object = pickled(|writer| {
                    writer
                        .global("os", "system")
                        .text(&format!("echo > {CANARY}"));
                    writer.tuple_of(1).reduce();
                });
                parts.keys = legacy_key_list(2, &[]);
                parts.storages.clear();
            })
        },
    );
    group.either(
        "machine-system",
        "the machine is what os.system returns",
        || {
            file(|parts| {
                let first = parts
                    .head
                    .windows(2)
                    .rposition(|window| window == [0x80, 2]);
                parts.head.truncate(first.expect("the third pickle"));
                parts.head.extend(pickled(|writer| {
                    writer
                        .global("os", "system")
                        .text(&format!("echo > {CANARY}"));
                    writer.tuple_of(1).reduce();
                }));
            })
        },
    );
    group.either("machine-deep", "the machine is 500,000 tuples deep", || {
        file(|parts| {
            let first = parts
                .head
                .windows(2)
                .rposition(|window| window == [0x80, 2]);
            parts.head.truncate(first.expect("the third pickle"));
            parts.head.extend(pickled(|writer| {
                writer.empty_tuple().raw(&vec![0x85; 500_000]);
            }));
        })
    });
}

fn storages(group: &mut Group<'_>) {
    for (name, count) in [
        ("count-more", 5i64),
        ("count-less", 3),
        ("count-negative", -4),
        ("count-max", i64::MAX),
        ("count-wraps", (1 << 62) + 4),
    ] {
        let why = format!("the storage says that it has {count} elements, the pickle says 4");
        group.refused(name, &why, move || {
            file(|parts| parts.storages = storage(count, &weight_bytes()))
        });
    }
    for (name, count) in [
        ("id-count-more", 5i64),
        ("id-count-negative", -1),
        ("id-count-huge", 1 << 60),
    ] {
        let why = format!("the pickle says that the storage has {count} elements, it says 4");
        group.refused(name, &why, move || {
            file(|parts| {
                parts.object = object(count, |writer| {
                    writer.none();
                });
            })
        });
    }
    group.refused("key-missing", "the storage is not listed", || {
        file(|parts| parts.keys = legacy_key_list(2, &["8"]))
    });
    group.refused("keys-empty", "no storage is listed", || {
        file(|parts| {
            parts.keys = legacy_key_list(2, &[]);
            parts.storages.clear();
        })
    });
    group.refused("keys-number", "the list of storages is a number", || {
        file(|parts| {
            parts.keys = pickled(|writer| {
                writer.int(7);
            });
        })
    });
    group.refused("keys-missing", "the list of storages is missing", || {
        file(|parts| {
            parts.keys.clear();
            parts.storages.clear();
        })
    });
    group.refused("keys-of-lists", "the list of storages holds lists", || {
        file(|parts| {
            parts.keys = pickled(|writer| {
                writer.empty_list().empty_list().op(b'a');
            });
        })
    });
    group.refused(
        "storages-missing",
        "the bytes of the storages are missing",
        || file(|parts| parts.storages.clear()),
    );
    group.refused(
        "keys-flood",
        "1,000,000 storages are listed, one is there",
        || {
            file(|parts| {
                parts.keys = pickled(|writer| {
                    writer.empty_list().mark().text("7").put(0);
                    writer.raw(&b"h\0".repeat(1_000_000)).appends();
                });
            })
        },
    );
}

fn views(group: &mut Group<'_>) {
    group.loads(
        "view-whole",
        "the storage is a view of all of its root",
        weight(),
        || {
            file(|parts| {
                parts.object = object(4, |writer| {
                    writer.text("9").int(0).int(4).tuple_of(3);
                });
            })
        },
    );
    for (name, offset, count) in [
        ("view-past-end", 1i64, 4i64),
        ("view-negative-offset", -1, 4),
        ("view-negative-count", 0, -4),
        ("view-huge", 0, 1 << 60),
        ("view-wraps", i64::MAX, 4),
        ("view-too-small", 0, 3),
    ] {
        let why = format!("the storage is a view of {count} elements from {offset} on, of four");
        group.refused(name, &why, move || {
            file(|parts| {
                parts.object = object(4, |writer| {
                    writer.text("9").int(offset).int(count).tuple_of(3);
                });
            })
        });
    }
    let odd: [Odd; 3] = [
        ("view-number", "the view metadata is a number", |writer| {
            writer.int(3);
        }),
        ("view-short", "the view metadata has two parts", |writer| {
            writer.text("9").int(0).tuple_of(2);
        }),
        ("view-text", "the view's offset is a string", |writer| {
            writer.text("9").text("0").int(4).tuple_of(3);
        }),
    ];
    for (name, why, view) in odd {
        group.refused(name, why, move || {
            file(|parts| parts.object = object(4, view))
        });
    }
    for (name, why, views) in [
        (
            "view-twice",
            "one key is two parts of the storage",
            [("9", 0), ("9", 2)],
        ),
        (
            "view-is-root",
            "a part of the storage has the storage's key",
            [("9", 0), ("7", 2)],
        ),
    ] {
        group.refused(name, why, move || {
            file(|parts| parts.object = two_views(views))
        });
    }
}

fn damage(group: &mut Group<'_>) {
    let whole = parts().bytes();
    for cut in cuts(whole.len(), 30).into_iter().skip(1) {
        let whole = whole.clone();
        let why = format!("only the first {cut} bytes are there");
        group.refused(&format!("cut-{cut}"), &why, move || whole[..cut].to_vec());
    }
    for round in 0..32u64 {
        let whole = whole.clone();
        let random = crate::content::stream(0x1e6a, round);
        let place = (random % whole.len() as u64) as usize;
        let byte = (random >> 32) as u8;
        let why = format!("byte {place} is {byte:#04x}");
        group.either(&format!("byte-{round}"), &why, move || {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            bytes
        });
    }
}
