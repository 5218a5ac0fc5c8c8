use super::parts::{file_of, state_with, weight, weight_pickle};
use super::{Case, Group};
use crate::pickle::Writer;

/// Adds small pickles that request much: depth, copies, slots, paths.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "bomb",
        file_name: "pytorch_model.bin",
        all,
    };
    depth(&mut group);
    doubling(&mut group);
    floods(&mut group);
    cycles(&mut group);
}

fn beside(extra: impl FnOnce(&mut Writer)) -> Vec<u8> {
    file_of(&state_with(2, extra))
}

fn depth(group: &mut Group<'_>) {
    type Push = fn(&mut Writer, usize);
    let kinds: [(&str, Push); 9] = [
        ("tuples", |writer, depth| {
            writer.empty_tuple().raw(&vec![0x85; depth]);
        }),
        ("lists", |writer, depth| {
            writer.raw(&vec![b']'; depth]).raw(&vec![b'a'; depth - 1]);
        }),
        ("marks", |writer, depth| {
            writer.raw(&vec![b'('; depth]).raw(&vec![b't'; depth]);
        }),
        ("dicts", |writer, depth| {
            writer.empty_dict();
            for _ in 0..depth {
                writer.raw(b"K\x01}");
            }
            writer.raw(&vec![b's'; depth]);
        }),
        ("keys", |writer, depth| {
            writer
                .empty_dict()
                .empty_tuple()
                .raw(&vec![0x85; depth])
                .int(1)
                .op(b's');
        }),
        ("arguments", |writer, depth| {
            for _ in 0..depth {
                writer.raw(b"cm\nC\n");
            }
            writer.empty_tuple();
            for _ in 0..depth {
                writer.raw(b"R\x85");
            }
        }),
        ("states", |writer, depth| {
            for _ in 0..depth {
                writer.raw(b"cm\nC\n)\x81");
            }
            writer.none().raw(&vec![b'b'; depth]);
        }),
        ("ordered-dicts", |writer, depth| {
            writer
                .global("collections", "OrderedDict")
                .put(250)
                .op(b'0')
                .none();
            for _ in 0..depth {
                // OrderedDict([[1, inner]]) around what is on the stack.
                writer.raw(b"q\xfb0h\xfa](K\x01h\xfbl\x61\x85R");
            }
        }),
        ("frozen-sets", |writer, depth| {
            writer
                .raw(&vec![b'('; depth])
                .none()
                .raw(&vec![0x91; depth]);
        }),
    ];
    for (name, push) in kinds {
        for depth in [20_000usize, 500_000] {
            let why = format!("{depth} {name} are nested");
            group.either(&format!("deep-{name}-{depth}"), &why, move || {
                beside(|writer| push(writer, depth))
            });
        }
    }
    group.loads("deep-lists-500", "500 lists are nested", weight(), || {
        beside(|writer| {
            writer.raw(&[b']'; 500]).raw(&[b'a'; 499]);
        })
    });
    for depth in [20_000usize, 500_000] {
        let why = format!("the only tensor lies under {depth} dicts");
        group.either(&format!("deep-tensor-{depth}"), &why, move || {
            let mut writer = Writer::new(2);
            for _ in 0..depth {
                writer.raw(b"}X\x01\0\0\0d");
            }
            weight_pickle().write(&mut writer);
            writer.raw(&vec![b's'; depth]);
            file_of(&writer.finish())
        });
        let why = format!("a persistent id is {depth} tuples deep");
        group.refused(&format!("deep-id-{depth}"), &why, move || {
            let mut writer = Writer::new(2);
            writer.empty_tuple().raw(&vec![0x85; depth]).persistent_id();
            file_of(&writer.finish())
        });
    }
    group.refused(
        "deep-unfinished",
        "5,000,000 marks and nothing else",
        || {
            let mut writer = Writer::new(2);
            writer.raw(&vec![b'('; 5_000_000]);
            file_of(&writer.unfinished())
        },
    );
}

fn doubling(group: &mut Group<'_>) {
    for (name, why, step) in [
        (
            "lists",
            "a list holds a list twice, 100 levels deep",
            b"](h\x00h\x00eq\x00".as_slice(),
        ),
        (
            "tuples",
            "a tuple holds a tuple twice, 100 levels deep",
            b"h\x00h\x00\x86q\x00",
        ),
        (
            "dicts",
            "a dict holds a dict twice, 100 levels deep",
            b"}(K\x00h\x00K\x01h\x00uq\x00",
        ),
        (
            "by-dup",
            "a tuple holds a copy of its neighbour, 100 levels deep",
            b"h\x002\x86q\x00",
        ),
    ] {
        // Without and with a tensor at the bottom: 2^100 paths lead there.
        group.either(&format!("doubling-{name}"), why, move || {
            let mut writer = Writer::new(2);
            writer.empty_tuple().put(0).op(b'0');
            for _ in 0..100 {
                writer.raw(step).op(b'0');
            }
            writer.empty_dict().mark().text("weight");
            weight_pickle_unmemoized(&mut writer);
            writer.text("extra").get(0).set_items();
            file_of(&writer.finish())
        });
        let why = format!("{why}, and a tensor lies at the bottom");
        group.either(&format!("doubling-{name}-tensor"), &why, move || {
            let mut writer = Writer::new(2);
            weight_pickle_unmemoized(&mut writer);
            writer.put(0).op(b'0');
            for _ in 0..100 {
                writer.raw(step).op(b'0');
            }
            writer.empty_dict().text("extra").get(0).op(b's');
            file_of(&writer.finish())
        });
    }
    group.either(
        "fan-out",
        "ten lists of ten, ten levels deep, around a tensor",
        || {
            let mut writer = Writer::new(2);
            weight_pickle_unmemoized(&mut writer);
            writer.put(0).op(b'0');
            for _ in 0..10 {
                writer.raw(b"](").raw(&b"h\0".repeat(10)).raw(b"eq\x000");
            }
            writer.empty_dict().text("extra").get(0).op(b's');
            file_of(&writer.finish())
        },
    );
    group.either(
        "fan-out-names",
        "one dict of 1,000 tensors under 1,000 names",
        || {
            let mut writer = Writer::new(2);
            weight_pickle_unmemoized(&mut writer);
            writer.put(0).op(b'0').empty_dict().mark();
            for number in 0..1000 {
                writer.text(&format!("t{number}")).get(0);
            }
            writer.set_items().put(1).op(b'0').empty_dict().mark();
            for number in 0..1000 {
                writer.text(&format!("d{number}")).get(1);
            }
            writer.set_items();
            file_of(&writer.finish())
        },
    );
    group.either(
        "long-names",
        "long keys within each other, with shared contents: names of 10 MB",
        || {
            let key = "k".repeat(50_000);
            let mut writer = Writer::new(2);
            writer.text(&key).put(0).op(b'0');
            weight_pickle_unmemoized(&mut writer);
            writer.put(1).op(b'0');
            for _ in 0..200 {
                writer.empty_dict().get(0).get(1).op(b's').put(1).op(b'0');
            }
            writer.get(1);
            file_of(&writer.finish())
        },
    );
    group.either(
        "string-copies",
        "one string of 1 MB is 100,000 times in a list",
        || {
            beside(|writer| {
                writer.text(&"s".repeat(1 << 20)).put(200).op(b'0');
                writer
                    .empty_list()
                    .mark()
                    .raw(&b"h\xc8".repeat(100_000))
                    .appends();
            })
        },
    );
}

/// The tensor, without use of the memo, whose first slots these pickles fill by hand.
fn weight_pickle_unmemoized(writer: &mut Writer) {
    writer.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    writer.text("storage").raw(b"ctorch\nFloatStorage\n");
    writer.text("0").text("cpu").int(4).tuple().persistent_id();
    writer
        .int(0)
        .int_tuple(&[2, 2])
        .int_tuple(&[2, 1])
        .bool(false);
    writer
        .raw(b"ccollections\nOrderedDict\n)R")
        .tuple()
        .reduce();
}

fn floods(group: &mut Group<'_>) {
    for (name, why, bytes) in [
        ("none", "2,000,000 values are in a list", b"N".as_slice()),
        ("lists", "2,000,000 empty lists are in a list", b"]"),
        ("dicts", "2,000,000 empty dicts are in a list", b"}"),
        ("dup", "a value is doubled 2,000,000 times", b"2"),
    ] {
        group.either(&format!("flood-{name}"), why, move || {
            beside(|writer| {
                writer
                    .empty_list()
                    .mark()
                    .none()
                    .raw(&bytes.repeat(2_000_000))
                    .appends();
            })
        });
    }
    group.either("flood-memo", "a value is kept in 1,000,000 slots", || {
        beside(|writer| {
            writer.none();
            for slot in 0..1_000_000u32 {
                writer.put(slot + 1000);
            }
        })
    });
    group.either(
        "flood-far-memo",
        "values are kept in 1,000 slots far from each other",
        || {
            beside(|writer| {
                writer.none();
                for slot in 0..1000u32 {
                    writer.put(slot * 4_000_000 + 1000);
                }
            })
        },
    );
    group.either("flood-memoize", "a value is kept 1,000,000 times", || {
        beside(|writer| {
            writer.none().raw(&vec![0x94; 1_000_000]);
        })
    });
    group.either("flood-globals", "500,000 unknown classes", || {
        beside(|writer| {
            writer
                .empty_list()
                .mark()
                .raw(&b"cm\nC\n".repeat(500_000))
                .appends();
        })
    });
    group.either(
        "flood-calls",
        "an unknown class is called 500,000 times",
        || {
            beside(|writer| {
                writer
                    .empty_list()
                    .mark()
                    .raw(&b"cm\nC\n)R".repeat(500_000))
                    .appends();
            })
        },
    );
    group.either("flood-keys", "a dict with 300,000 keys", || {
        beside(|writer| {
            writer.empty_dict().mark();
            for key in 0..300_000 {
                writer.int(key).none();
            }
            writer.set_items();
        })
    });
    group.either("flood-equal-keys", "one key is set 500,000 times", || {
        beside(|writer| {
            writer
                .empty_dict()
                .mark()
                .raw(&b"K\x01N".repeat(500_000))
                .set_items();
        })
    });
    group.either(
        "flood-tuple-keys",
        "100,000 keys that are long tuples of one another",
        || {
            beside(|writer| {
                writer.empty_dict().empty_tuple().put(200).op(b'0');
                for _ in 0..50_000 {
                    writer
                        .get(200)
                        .get(200)
                        .tuple_of(2)
                        .put(200)
                        .none()
                        .op(b's');
                }
            })
        },
    );
    states(group);
    group.either("flood-views", "300,000 views of one tensor", || {
        let mut writer = Writer::new(2);
        weight_pickle_unmemoized(&mut writer);
        writer.put(0).op(b'0').empty_list().mark();
        writer.raw(&b"h\0".repeat(300_000)).appends();
        file_of(&writer.finish())
    });
}

/// Bare pickles, which are read in growing windows, and states that are given again and again.
fn states(group: &mut Group<'_>) {
    let mut bare = |name: &str, why: &str, write: fn(&mut Writer)| {
        group.either(name, why, move || {
            let mut writer = Writer::new(2);
            write(&mut writer);
            writer.finish()
        });
    };
    bare("bare-lists", "3,000,000 lists in each other", |writer| {
        writer
            .raw(&vec![b']'; 3_000_000])
            .raw(&vec![b'a'; 2_999_999]);
    });
    bare("bare-tuples", "2,000,000 tuples in each other", |writer| {
        writer.none().raw(&vec![0x85; 2_000_000]);
    });
    bare("bare-states", "1,000,000 states of an object", |writer| {
        writer.raw(b"cm\nC\n)R").raw(&b"}b".repeat(1_000_000));
    });
    bare("bare-appends", "a list of 2,000,000 items", |writer| {
        writer.empty_list().raw(&b"Na".repeat(2_000_000));
    });
    bare("same-state", "one dict, 500,000 times a state", |writer| {
        writer.empty_dict().int(1).empty_list().op(b's').put(0);
        writer.raw(b"0cm\nC\n)R").raw(&b"h\0b".repeat(500_000));
    });
}

fn cycles(group: &mut Group<'_>) {
    group.loads("cycle-list", "a list holds itself", weight(), || {
        beside(|writer| {
            writer.empty_list().put(200).get(200).op(b'a');
        })
    });
    group.loads("cycle-dict", "a dict holds itself", weight(), || {
        beside(|writer| {
            writer.empty_dict().put(200).text("self").get(200).op(b's');
        })
    });
    group.loads(
        "cycle-tuple",
        "a tuple holds a list that holds the tuple",
        weight(),
        || {
            beside(|writer| {
                writer.empty_list().put(200).tuple_of(1).put(201).op(b'0');
                writer.get(200).get(201).op(b'a').op(b'0').get(201);
            })
        },
    );
    group.loads(
        "cycle-object",
        "an object's state holds the object",
        weight(),
        || {
            beside(|writer| {
                writer.raw(b"cm\nC\n)\x81").put(200);
                writer.empty_dict().text("self").get(200).op(b's').build();
            })
        },
    );
    group.loads(
        "cycle-root",
        "the state dict holds itself",
        weight(),
        || {
            let mut writer = Writer::new(2);
            writer.empty_dict().put(200).mark().text("weight");
            weight_pickle_unmemoized(&mut writer);
            writer.text("self").get(200).set_items();
            file_of(&writer.finish())
        },
    );
    group.loads("cycle-two", "two dicts hold each other", weight(), || {
        beside(|writer| {
            writer.empty_dict().put(200).empty_dict().put(201);
            writer
                .text("a")
                .get(200)
                .op(b's')
                .text("b")
                .get(201)
                .op(b's')
                .op(b'0');
            writer.text("c").get(201).op(b's');
        })
    });
    group.either("cycle-key", "a dict's key holds the dict", || {
        beside(|writer| {
            writer
                .empty_dict()
                .put(200)
                .get(200)
                .tuple_of(1)
                .none()
                .op(b's');
        })
    });
    group.either(
        "cycle-arguments",
        "an object's arguments hold the arguments",
        || {
            beside(|writer| {
                writer
                    .raw(b"cm\nC\n")
                    .empty_list()
                    .put(200)
                    .get(200)
                    .op(b'a')
                    .tuple_of(1)
                    .reduce();
            })
        },
    );
    group.refused("cycle-id", "a persistent id holds itself", || {
        let mut writer = Writer::new(2);
        writer
            .empty_list()
            .put(200)
            .get(200)
            .op(b'a')
            .tuple_of(1)
            .persistent_id();
        file_of(&writer.finish())
    });
}
