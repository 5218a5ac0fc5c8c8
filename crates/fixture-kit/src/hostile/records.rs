use tensorlift_tensor_meta::Dtype;

use super::parts::{
    Odd, STORAGE, archive_of, expected, file_of, state_of, weight, weight_bytes, weight_pickle,
};
use super::{Case, Group};
use crate::pickle::Writer;
use crate::torch::TensorPickle;
use crate::zip::RawEntry;

/// Adds archives whose pickle and storages disagree.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "storage",
        file_name: "pytorch_model.bin",
        all,
    };
    sizes(&mut group);
    twice(&mut group);
    keys(&mut group);
    ids(&mut group);
}

/// A file whose only tensor has these arguments.
fn file(change: impl FnOnce(&mut TensorPickle)) -> Vec<u8> {
    let mut tensor = weight_pickle();
    change(&mut tensor);
    file_of(&state_of(|writer| tensor.write(writer)))
}

fn sizes(group: &mut Group<'_>) {
    for len in [0usize, 1, 12, 15] {
        let why = format!("the storage has {len} bytes, the tensor needs 16");
        group.refused(&format!("of-{len}-bytes"), &why, move || {
            let mut archive = archive_of(&state_of(|writer| weight_pickle().write(writer)));
            let bytes = &weight_bytes()[..len];
            archive.entries[STORAGE] = RawEntry::stored("archive/data/0", bytes);
            archive.bytes()
        });
    }
    for len in [17usize, 20, 4096] {
        let why = format!("the storage has {len} bytes, the pickle says 16");
        group.either(&format!("of-{len}-bytes"), &why, move || {
            let mut archive = archive_of(&state_of(|writer| weight_pickle().write(writer)));
            let mut bytes = weight_bytes();
            bytes.resize(len, 0);
            archive.entries[STORAGE] = RawEntry::stored("archive/data/0", &bytes);
            archive.bytes()
        });
    }
    for (name, count) in [
        ("count-more", 5i64),
        ("count-far-more", 1 << 40),
        ("count-wraps", (1 << 62) + 4),
        ("count-max", i64::MAX),
        ("count-negative", -4),
        ("count-min", i64::MIN),
    ] {
        let why = format!("the storage is declared to have {count} elements");
        group.refused(name, &why, move || file(|tensor| tensor.count = count));
    }
    group.refused(
        "count-zero",
        "the storage is declared to be empty, the tensor is not",
        || file(|tensor| tensor.count = 0),
    );
    let odd_counts: [Odd; 5] = [
        ("count-long", "an integer of 9 bytes", |writer| {
            writer.long(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }),
        ("count-float", "a float", |writer| {
            writer.float(4.0);
        }),
        ("count-none", "None", |writer| {
            writer.none();
        }),
        ("count-text", "a string", |writer| {
            writer.text("4");
        }),
        ("count-list", "a list", |writer| {
            writer.empty_list();
        }),
    ];
    for (name, what, push) in odd_counts {
        let why = format!("the storage's element count is {what}");
        group.refused(name, &why, move || {
            with_id(|writer| {
                writer
                    .mark()
                    .text("storage")
                    .global("torch", "FloatStorage");
                writer.text("0").text("cpu");
                push(writer);
                writer.tuple();
            })
        });
    }
}

/// A file whose only tensor has this persistent id.
fn with_id(id: impl FnOnce(&mut Writer)) -> Vec<u8> {
    file_of(&state_of(|writer| {
        weight_pickle().write_with(writer, |writer, _| {
            id(writer);
            writer.persistent_id();
        });
    }))
}

/// A file of two tensors with these arguments.
fn two(first: TensorPickle, second: TensorPickle) -> Vec<u8> {
    let mut writer = Writer::new(2);
    writer.empty_dict().mark().text("a");
    first.write(&mut writer);
    writer.text("b");
    second.write(&mut writer);
    writer.set_items();
    file_of(&writer.finish())
}

fn twice(group: &mut Group<'_>) {
    group.refused(
        "twice-larger",
        "a second reference needs more than the storage has",
        || two(weight_pickle(), TensorPickle::float("0", &[4, 4])),
    );
    group.either(
        "twice-smaller",
        "a second reference says that the storage is smaller",
        || two(weight_pickle(), TensorPickle::float("0", &[2])),
    );
    group.either(
        "twice-other-dtype",
        "a second reference says that the elements are integers",
        || {
            let mut second = weight_pickle();
            second.storage.1 = "IntStorage".to_owned();
            two(weight_pickle(), second)
        },
    );
    group.loads(
        "empty-under-two-dtypes",
        "an empty storage is referenced under two dtypes",
        vec![
            expected("a", Dtype::F32, &[0], Vec::new()),
            expected("b", Dtype::I64, &[0, 2], Vec::new()),
        ],
        || {
            let first = TensorPickle::float("0", &[0]);
            let mut second = TensorPickle::float("0", &[0, 2]);
            second.storage.1 = "LongStorage".to_owned();
            let mut writer = Writer::new(2);
            writer.empty_dict().mark().text("a");
            first.write(&mut writer);
            writer.text("b");
            second.write(&mut writer);
            writer.set_items();
            let mut archive = archive_of(&writer.finish());
            archive.entries[STORAGE] = RawEntry::stored("archive/data/0", b"");
            archive.bytes()
        },
    );
}

fn keys(group: &mut Group<'_>) {
    for (name, key) in [
        ("key-missing", "1"),
        ("key-empty", ""),
        ("key-parent", "../data.pkl"),
        ("key-far-parent", "../../../../../../etc/passwd"),
        ("key-absolute", "/etc/passwd"),
        ("key-dot", "./0"),
        ("key-folder", "."),
        ("key-nul", "0\0"),
        ("key-space", "0 "),
        ("key-leading-zero", "00"),
        ("key-digit-of-other-script", "٠"),
    ] {
        let why = format!("the storage is called {key:?}, which is missing");
        group.refused(name, &why, move || {
            file(|tensor| tensor.key = key.to_owned())
        });
    }
    group.loads(
        "location-cuda",
        "the storage was on a GPU",
        weight(),
        || {
            with_id(|writer| {
                writer
                    .mark()
                    .text("storage")
                    .global("torch", "FloatStorage");
                writer.text("0").text("cuda:3").int(4).tuple();
            })
        },
    );
    let odd: [Odd; 4] = [
        (
            "location-meta",
            "the storage's location is the meta device",
            |writer| {
                writer.text("meta");
            },
        ),
        (
            "location-unknown",
            "the storage's location is unknown",
            |writer| {
                writer.text("nowhere:0");
            },
        ),
        (
            "location-none",
            "the storage's location is None",
            |writer| {
                writer.none();
            },
        ),
        (
            "location-number",
            "the storage's location is a number",
            |writer| {
                writer.int(0);
            },
        ),
    ];
    for (name, why, location) in odd {
        group.either(name, why, move || {
            with_id(|writer| {
                writer
                    .mark()
                    .text("storage")
                    .global("torch", "FloatStorage");
                writer.text("0");
                location(writer);
                writer.int(4).tuple();
            })
        });
    }
    group.either("key-number", "the storage's key is a number", || {
        with_id(|writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "FloatStorage");
            writer.int(0).text("cpu").int(4).tuple();
        })
    });
}

fn ids(group: &mut Group<'_>) {
    let odd: [Odd; 13] = [
        ("id-text", "the persistent id is a string", |writer| {
            writer.text("0");
        }),
        ("id-number", "the persistent id is a number", |writer| {
            writer.int(0);
        }),
        ("id-none", "the persistent id is None", |writer| {
            writer.none();
        }),
        ("id-dict", "the persistent id is a dict", |writer| {
            writer.empty_dict();
        }),
        ("id-empty", "the persistent id is empty", |writer| {
            writer.empty_tuple();
        }),
        ("id-short", "the persistent id has four parts", |writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "FloatStorage");
            writer.text("0").text("cpu").tuple();
        }),
        (
            "id-other-kind",
            "the persistent id is of an unknown kind",
            |writer| {
                writer
                    .mark()
                    .text("stowage")
                    .global("torch", "FloatStorage");
                writer.text("0").text("cpu").int(4).tuple();
            },
        ),
        (
            "id-kind-number",
            "the persistent id's kind is a number",
            |writer| {
                writer.mark().int(1).global("torch", "FloatStorage");
                writer.text("0").text("cpu").int(4).tuple();
            },
        ),
        ("type-text", "the storage's type is a string", |writer| {
            writer.mark().text("storage").text("torch.FloatStorage");
            writer.text("0").text("cpu").int(4).tuple();
        }),
        ("type-unknown", "the storage's type is unknown", |writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "Float7Storage");
            writer.text("0").text("cpu").int(4).tuple();
        }),
        ("type-system", "the storage's type is os.system", |writer| {
            writer.mark().text("storage").global("os", "system");
            writer.text("0").text("cpu").int(4).tuple();
        }),
        ("key-none", "the storage's key is None", |writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "FloatStorage");
            writer.none().text("cpu").int(4).tuple();
        }),
        ("key-tuple", "the storage's key is a tuple", |writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "FloatStorage");
            writer.empty_tuple().text("cpu").int(4).tuple();
        }),
    ];
    for (name, why, id) in odd {
        group.refused(name, why, move || with_id(id));
    }
    group.refused("id-line", "the persistent id is a line of text", || {
        file_of(&state_of(|writer| {
            weight_pickle().write_with(writer, |writer, _| {
                writer.raw(b"Pstorage 0\n");
            });
        }))
    });
    group.either("id-long", "the persistent id has a part too many", || {
        with_id(|writer| {
            writer
                .mark()
                .text("storage")
                .global("torch", "FloatStorage");
            writer.text("0").text("cpu").int(4).none().tuple();
        })
    });
    group.either("id-list", "the persistent id is a list", || {
        with_id(|writer| {
            writer.empty_list().mark().text("storage");
            writer
                .global("torch", "FloatStorage")
                .text("0")
                .text("cpu")
                .int(4)
                .appends();
        })
    });
}
