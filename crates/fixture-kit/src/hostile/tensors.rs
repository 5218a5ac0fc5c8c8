use tensorlift_tensor_meta::Dtype;

use super::parts::{
    Odd, STORAGE, archive_of, expected, file_of, state_of, state_with, weight, weight_bytes,
    weight_pickle,
};
use super::{Case, Group};
use crate::ExpectedTensor;
use crate::pickle::Writer;
use crate::torch::TensorPickle;
use crate::zip::RawEntry;

/// Adds tensors whose arguments cannot be true, and odd ones that can.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "tensor",
        file_name: "pytorch_model.bin",
        all,
    };
    layouts(&mut group);
    sound(&mut group);
    arguments(&mut group);
    names(&mut group);
}

/// A file whose only tensor has these arguments.
fn file(change: impl FnOnce(&mut TensorPickle)) -> Vec<u8> {
    let mut tensor = weight_pickle();
    change(&mut tensor);
    file_of(&state_of(|writer| tensor.write(writer)))
}

fn layouts(group: &mut Group<'_>) {
    for (name, why, offset, size, stride) in [
        (
            "offset-negative",
            "the offset is negative",
            -1i64,
            vec![2i64],
            vec![1i64],
        ),
        (
            "offset-min",
            "the offset is the lowest number",
            i64::MIN,
            vec![2],
            vec![1],
        ),
        (
            "offset-past-end",
            "the offset lies past the storage",
            4,
            vec![1],
            vec![1],
        ),
        (
            "offset-far",
            "the offset lies 2^40 elements past the storage",
            1 << 40,
            vec![1],
            vec![1],
        ),
        (
            "offset-max",
            "the offset is the highest number",
            i64::MAX,
            vec![1],
            vec![1],
        ),
        (
            "offset-wraps",
            "the offset wraps around in bytes",
            1 << 62,
            vec![1],
            vec![1],
        ),
        (
            "view-past-end",
            "the last element lies past the storage",
            1,
            vec![2, 2],
            vec![2, 1],
        ),
        (
            "view-past-end-by-stride",
            "the stride leads past the storage",
            0,
            vec![2],
            vec![4],
        ),
        (
            "size-negative",
            "a size is negative",
            0,
            vec![-2, -2],
            vec![2, 1],
        ),
        (
            "size-min",
            "a size is the lowest number",
            0,
            vec![i64::MIN],
            vec![1],
        ),
        (
            "size-max",
            "a size is the highest number",
            0,
            vec![i64::MAX],
            vec![1],
        ),
        (
            "size-overflow",
            "the sizes multiply to 2^64",
            0,
            vec![1 << 32, 1 << 32],
            vec![0, 1],
        ),
        (
            "size-overflow-to-fit",
            "the sizes wrap around to 4",
            0,
            vec![(1 << 62) + 1, 4],
            vec![4, 1],
        ),
        (
            "size-larger",
            "the tensor is larger than its storage",
            0,
            vec![3, 2],
            vec![2, 1],
        ),
        (
            "stride-negative",
            "a stride is negative",
            3,
            vec![2],
            vec![-1],
        ),
        (
            "stride-max",
            "a stride is the highest number",
            0,
            vec![2],
            vec![i64::MAX],
        ),
        (
            "stride-overflow",
            "a stride wraps around in bytes",
            0,
            vec![3],
            vec![1 << 61],
        ),
        (
            "stride-sum-overflow",
            "the strides wrap around together",
            0,
            vec![3, 3],
            vec![i64::MAX / 2, i64::MAX / 2],
        ),
        (
            "stride-missing",
            "there are fewer strides than sizes",
            0,
            vec![2, 2],
            vec![1],
        ),
        (
            "stride-extra",
            "there are more strides than sizes",
            0,
            vec![2],
            vec![2, 1],
        ),
    ] {
        group.refused(name, why, move || {
            let (size, stride) = (size.clone(), stride.clone());
            file(|tensor| {
                tensor.offset = offset;
                tensor.size = size;
                tensor.stride = stride;
            })
        });
    }
    group.refused(
        "dtype-widens",
        "an untyped storage has too few bytes for the dtype",
        || {
            file(|tensor| {
                tensor.storage = ("torch.storage".to_owned(), "UntypedStorage".to_owned());
                tensor.count = 16;
                tensor.dtype = Some("uint64".to_owned());
            })
        },
    );
    for (name, why, size, stride) in [
        (
            "huge-expanded",
            "one element stands for 4 TiB by a stride of zero",
            vec![1i64 << 40],
            vec![0i64],
        ),
        (
            "huge-overlapping",
            "overlapping rows stand for 2^60 elements",
            vec![1 << 30, 1 << 30, 2],
            vec![0, 0, 1],
        ),
        ("stride-none", "there are no strides", vec![2, 2], vec![]),
        (
            "zero-of-overflow",
            "no element, but the other sizes overflow",
            vec![1 << 62, 1 << 62, 0],
            vec![0, 0, 1],
        ),
        (
            "zero-of-far-strides",
            "no element, but strides that overflow",
            vec![2, 0],
            vec![i64::MAX, i64::MAX],
        ),
        ("rank-65", "65 dimensions", vec![1; 65], vec![1; 65]),
        (
            "rank-100000",
            "100,000 dimensions",
            vec![1; 100_000],
            vec![1; 100_000],
        ),
    ] {
        group.either(name, why, move || {
            let (size, stride) = (size.clone(), stride.clone());
            file(|tensor| {
                tensor.size = size;
                tensor.stride = stride;
            })
        });
    }
}

/// One tensor `weight` of float32 with these elements.
fn floats(shape: &[usize], values: &[f32]) -> Vec<ExpectedTensor> {
    let bytes = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    vec![expected("weight", Dtype::F32, shape, bytes)]
}

fn sound(group: &mut Group<'_>) {
    let mut loads = |name: &str, why: &str, tensors, size: Vec<i64>, stride: Vec<i64>, offset| {
        group.loads(name, why, tensors, move || {
            let (size, stride) = (size.clone(), stride.clone());
            file(|tensor| {
                tensor.offset = offset;
                tensor.size = size;
                tensor.stride = stride;
            })
        });
    };
    loads(
        "transposed",
        "the strides are those of the transpose",
        floats(&[2, 2], &[1., 3., 2., 4.]),
        vec![2, 2],
        vec![1, 2],
        0,
    );
    loads(
        "expanded",
        "a stride of zero repeats an element",
        floats(&[3], &[2., 2., 2.]),
        vec![3],
        vec![0],
        1,
    );
    loads(
        "overlapping",
        "rows overlap",
        floats(&[3, 2], &[1., 2., 2., 3., 3., 4.]),
        vec![3, 2],
        vec![1, 1],
        0,
    );
    loads(
        "empty-at-end",
        "an empty view begins at the end of the storage",
        floats(&[0], &[]),
        vec![0],
        vec![1],
        4,
    );
    loads(
        "scalar",
        "a scalar is one element of the storage",
        floats(&[], &[3.]),
        vec![],
        vec![],
        2,
    );
    loads(
        "stride-of-one-element",
        "the stride of a dimension of size 1 leads nowhere",
        floats(&[1, 2], &[1., 2.]),
        vec![1, 2],
        vec![i64::MAX, 1],
        0,
    );
    group.loads(
        "untyped-offset",
        "an untyped storage counts bytes, the offset elements",
        {
            vec![expected(
                "weight",
                Dtype::U16,
                &[3],
                weight_bytes()[10..].to_vec(),
            )]
        },
        || {
            file(|tensor| {
                tensor.storage = ("torch.storage".to_owned(), "UntypedStorage".to_owned());
                tensor.count = 16;
                tensor.dtype = Some("uint16".to_owned());
                tensor.offset = 5;
                tensor.size = vec![3];
                tensor.stride = vec![1];
            })
        },
    );
    group.loads(
        "negated",
        "the negative bit is set",
        floats(&[2, 2], &[-1., -2., -3., -4.]),
        || file(|tensor| tensor.negated = true),
    );
}

/// A file whose only tensor is what `push` pushes.
fn pushed(push: impl FnOnce(&mut Writer)) -> Vec<u8> {
    file_of(&state_of(push))
}

fn arguments(group: &mut Group<'_>) {
    let odd: [Odd; 18] = [
        (
            "arguments-none",
            "the tensor is rebuilt from no arguments",
            |writer| {
                writer
                    .global("torch._utils", "_rebuild_tensor_v2")
                    .empty_tuple()
                    .reduce();
            },
        ),
        (
            "arguments-few",
            "the tensor is rebuilt from its storage alone",
            |writer| {
                writer.global("torch._utils", "_rebuild_tensor_v2");
                weight_pickle().write_storage(writer);
                writer.tuple_of(1).reduce();
            },
        ),
        ("arguments-list", "the arguments are a list", |writer| {
            writer
                .global("torch._utils", "_rebuild_tensor_v2")
                .empty_list()
                .reduce();
        }),
        ("arguments-number", "the arguments are a number", |writer| {
            writer
                .global("torch._utils", "_rebuild_tensor_v2")
                .int(3)
                .reduce();
        }),
        ("storage-none", "the storage is None", |writer| {
            rebuild(writer, |writer| {
                writer.none();
            });
        }),
        ("storage-number", "the storage is a number", |writer| {
            rebuild(writer, |writer| {
                writer.int(7);
            });
        }),
        ("storage-dict", "the storage is a dict", |writer| {
            rebuild(writer, |writer| {
                writer.empty_dict();
            });
        }),
        ("storage-tensor", "the storage is a tensor", |writer| {
            rebuild(writer, |writer| weight_pickle().write(writer));
        }),
        (
            "storage-class",
            "the storage is the storage class",
            |writer| {
                rebuild(writer, |writer| {
                    writer.global("torch", "FloatStorage");
                });
            },
        ),
        ("size-list-of-text", "the sizes are strings", |writer| {
            sized(writer, |writer| {
                writer.text("2").text("2").tuple_of(2);
            });
        }),
        ("size-floats", "the sizes are floats", |writer| {
            sized(writer, |writer| {
                writer.float(2.0).float(2.0).tuple_of(2);
            });
        }),
        ("size-none", "the sizes are None", |writer| {
            sized(writer, |writer| {
                writer.none();
            });
        }),
        ("size-number", "the sizes are one number", |writer| {
            sized(writer, |writer| {
                writer.int(4);
            });
        }),
        ("size-long", "a size needs 2,000 bits", |writer| {
            sized(writer, |writer| {
                writer.long(&[1; 250]).int(2).tuple_of(2);
            });
        }),
        (
            "v3-no-dtype",
            "the dtype of an untyped tensor is missing",
            |writer| {
                writer.global("torch._utils", "_rebuild_tensor_v3").mark();
                weight_pickle().write_storage(writer);
                writer
                    .int(0)
                    .int_tuple(&[2, 2])
                    .int_tuple(&[2, 1])
                    .bool(false)
                    .empty_dict();
                writer.tuple().reduce();
            },
        ),
        (
            "v3-dtype-unknown",
            "the dtype of an untyped tensor is unknown",
            |writer| {
                untyped(writer, |writer| {
                    writer.global("torch", "float7");
                });
            },
        ),
        (
            "v3-dtype-text",
            "the dtype of an untyped tensor is a string",
            |writer| {
                untyped(writer, |writer| {
                    writer.text("float32");
                });
            },
        ),
        (
            "v3-dtype-system",
            "the dtype of an untyped tensor is os.system",
            |writer| {
                untyped(writer, |writer| {
                    writer.global("os", "system");
                });
            },
        ),
    ];
    for (name, why, push) in odd {
        group.refused(name, why, move || pushed(push));
    }
    let either: [Odd; 7] = [
        (
            "parameter-of-nothing",
            "a parameter is made of None",
            |writer| {
                weight_pickle().write(writer);
                writer
                    .text("p")
                    .global("torch._utils", "_rebuild_parameter");
                writer.none().bool(true).none().tuple_of(3).reduce();
            },
        ),
        (
            "quantized-unknown-scheme",
            "a quantized tensor has an unknown scheme",
            |writer| {
                quantized(writer, |writer| {
                    writer
                        .global("torch", "per_galaxy_affine")
                        .float(0.5)
                        .int(0)
                        .tuple_of(3);
                });
            },
        ),
        (
            "quantized-no-scheme",
            "a quantized tensor has no scheme",
            |writer| {
                quantized(writer, |writer| {
                    writer.empty_tuple();
                });
            },
        ),
        (
            "quantized-axis",
            "a tensor is quantized along a dimension that it lacks",
            |writer| {
                quantized(writer, |writer| {
                    writer.mark().global("torch", "per_channel_affine");
                    weight_pickle().write(writer);
                    weight_pickle().write(writer);
                    writer.int(99).tuple();
                });
            },
        ),
        (
            "sparse-unknown-layout",
            "a sparse tensor has an unknown layout",
            |writer| {
                writer.global("torch._utils", "_rebuild_sparse_tensor");
                writer.global("torch", "sparse_xyz");
                weight_pickle().write(writer);
                writer.tuple_of(1).tuple_of(2).reduce();
            },
        ),
        (
            "sparse-lies",
            "a sparse tensor's indices lie outside of it",
            |writer| {
                writer.global("torch._utils", "_rebuild_sparse_tensor");
                writer
                    .global("torch.serialization", "_get_layout")
                    .text("torch.sparse_coo");
                writer.tuple_of(1).reduce().mark();
                weight_pickle().write(writer);
                weight_pickle().write(writer);
                writer.int_tuple(&[1, 1]).tuple().tuple_of(2).reduce();
            },
        ),
        (
            "meta-huge",
            "a tensor without bytes has 2^60 elements",
            |writer| {
                writer.global("torch._utils", "_rebuild_meta_tensor_no_storage");
                writer
                    .mark()
                    .global("torch", "float32")
                    .int_tuple(&[1 << 30, 1 << 30]);
                writer.int_tuple(&[1 << 30, 1]).bool(false).tuple().reduce();
            },
        ),
    ];
    for (name, why, push) in either {
        group.either(name, why, move || pushed(push));
    }
    group.loads(
        "state-none",
        "values that are no tensors stand beside",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer.none();
            }))
        },
    );
}

fn rebuild(writer: &mut Writer, storage: impl FnOnce(&mut Writer)) {
    writer.global("torch._utils", "_rebuild_tensor_v2").mark();
    storage(writer);
    writer
        .int(0)
        .int_tuple(&[2, 2])
        .int_tuple(&[2, 1])
        .bool(false);
    writer
        .global("collections", "OrderedDict")
        .empty_tuple()
        .reduce();
    writer.tuple().reduce();
}

fn sized(writer: &mut Writer, size: impl FnOnce(&mut Writer)) {
    writer.global("torch._utils", "_rebuild_tensor_v2").mark();
    weight_pickle().write_storage(writer);
    writer.int(0);
    size(writer);
    writer
        .int_tuple(&[2, 1])
        .bool(false)
        .empty_dict()
        .tuple()
        .reduce();
}

fn untyped(writer: &mut Writer, dtype: impl FnOnce(&mut Writer)) {
    writer.global("torch._utils", "_rebuild_tensor_v3").mark();
    let mut tensor = weight_pickle();
    tensor.storage = ("torch.storage".to_owned(), "UntypedStorage".to_owned());
    tensor.count = 16;
    tensor.write_storage(writer);
    writer
        .int(0)
        .int_tuple(&[2, 2])
        .int_tuple(&[2, 1])
        .bool(false)
        .empty_dict();
    dtype(writer);
    writer.tuple().reduce();
}

fn quantized(writer: &mut Writer, scheme: impl FnOnce(&mut Writer)) {
    writer.global("torch._utils", "_rebuild_qtensor").mark();
    let mut tensor = weight_pickle();
    tensor.storage.1 = "QInt32Storage".to_owned();
    tensor.write_storage(writer);
    writer.int(0).int_tuple(&[2, 2]).int_tuple(&[2, 1]);
    scheme(writer);
    writer.bool(false).empty_dict().tuple().reduce();
}

fn names(group: &mut Group<'_>) {
    let key = |push: fn(&mut Writer)| {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark();
        push(&mut writer);
        weight_pickle().write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    };
    let odd: [Odd; 7] = [
        (
            "key-not-utf8",
            "a key is neither UTF-8 nor a lone surrogate",
            |writer| {
                writer.text_bytes(b"\xff\xfe");
            },
        ),
        ("key-surrogate", "a key is a lone surrogate", |writer| {
            writer.text_bytes(b"\xed\xa0\x80");
        }),
        (
            "key-list",
            "a key is a list, which Python cannot hash",
            |writer| {
                writer.empty_list();
            },
        ),
        (
            "key-dict",
            "a key is a dict, which Python cannot hash",
            |writer| {
                writer.empty_dict();
            },
        ),
        ("key-tensor", "a key is a tensor", |writer| {
            weight_pickle().write(writer);
        }),
        ("key-nan", "a key is not a number", |writer| {
            writer.float(f64::NAN);
        }),
        ("key-class", "a key is os.system", |writer| {
            writer.global("os", "system");
        }),
    ];
    for (name, why, push) in odd {
        group.either(name, why, move || key(push));
    }
    group.either("key-twice", "a key is set twice, to other tensors", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark();
        writer.text("weight");
        weight_pickle().write(&mut writer);
        writer.text("weight");
        TensorPickle::float("0", &[4]).write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    });
    group.either(
        "names-collide",
        "the paths of two tensors are joined to one name",
        || {
            let mut writer = Writer::new(2);
            writer.empty_dict().mark().text("a.b");
            weight_pickle().write(&mut writer);
            writer.text("a").empty_dict().text("b");
            weight_pickle().write(&mut writer);
            writer.op(b's').set_items();
            file_of(&writer.finish())
        },
    );
    group.either("long-name", "a key of 1,000,000 bytes", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark().text(&"n".repeat(1_000_000));
        weight_pickle().write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    });
    group.loads(
        "many-views",
        "1,000 names share one storage",
        (0..1000)
            .map(|number| expected(&format!("{number:04}"), Dtype::F32, &[2, 2], weight_bytes()))
            .collect(),
        || {
            let mut writer = Writer::new(2);
            writer.empty_dict().mark();
            for number in 0..1000 {
                writer.text(&format!("{number:04}"));
                weight_pickle().write(&mut writer);
            }
            writer.set_items();
            let mut archive = archive_of(&writer.finish());
            archive.entries[STORAGE] = RawEntry::stored("archive/data/0", &weight_bytes());
            archive.bytes()
        },
    );
}
