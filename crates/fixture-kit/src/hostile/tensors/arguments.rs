use super::super::Group;
use super::super::parts::{Odd, file_of, state_of, state_with, weight, weight_pickle};
use crate::pickle::Writer;

pub(super) fn add(group: &mut Group<'_>) {
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
        "values other than tensors are beside the tensor",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer.none();
            }))
        },
    );
}

/// A file whose only tensor is what `push` pushes.
fn pushed(push: impl FnOnce(&mut Writer)) -> Vec<u8> {
    file_of(&state_of(push))
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
