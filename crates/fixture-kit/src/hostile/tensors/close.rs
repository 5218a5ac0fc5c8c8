//! Objects that are close to others and not the same: keys, second states, conversions.

use tensorlift_tensor_meta::Dtype;

use super::super::Group;
use super::super::parts::{Odd, expected, file_of, state_of, weight, weight_bytes, weight_pickle};
use crate::pickle::Writer;
use crate::torch::TensorPickle;

pub(super) fn add(group: &mut Group<'_>) {
    let refused: [Odd; 4] = [
        (
            "storage-key-bytes",
            "the key of the storage is b'0', not '0'",
            |writer| keyed(writer, |writer| writer.bytes(b"0")),
        ),
        (
            "storage-two-types",
            "one storage is of floats at first and of integers later",
            |writer| {
                let mut integers = weight_pickle();
                integers.storage.1 = "IntStorage".to_owned();
                writer.empty_list().mark();
                weight_pickle().write(writer);
                integers.write(writer);
                writer.appends();
            },
        ),
        (
            "converted-inexactly",
            "BF16 of another device is written as F32 numbers that BF16 lacks",
            |writer| from_numpy(writer, [1.5, 0.1], "bfloat16"),
        ),
        (
            "converted-to-integers",
            "a tensor of another device is to be I32, and F32 is there",
            |writer| from_numpy(writer, [1.0, 2.0], "int32"),
        ),
    ];
    for (name, why, push) in refused {
        group.refused(name, why, move || file_of(&state_of(push)));
    }
    let last = || {
        vec![expected(
            "weight",
            Dtype::F32,
            &[1],
            weight_bytes()[8..12].to_vec(),
        )]
    };
    let built: [Odd; 2] = [
        (
            "built-twice",
            "a tensor of PyTorch 0.3 is filled twice, and the second counts",
            |writer| {
                writer.global("torch", "FloatTensor").empty_tuple().op(0x81);
                view(writer, 0, 4);
                view(writer, 2, 1);
            },
        ),
        (
            "built-after-rebuilding",
            "a tensor is rebuilt, and then pointed at a part of its storage",
            |writer| {
                weight_pickle().write(writer);
                view(writer, 2, 1);
            },
        ),
    ];
    for (name, why, push) in built {
        group.loads(name, why, last(), move || file_of(&state_of(push)));
    }
    let half = [0xc0, 0x3f, 0x00, 0xc0].to_vec();
    group.loads(
        "converted-exactly",
        "BF16 of another device is written as F32, since NumPy lacks it",
        vec![expected("weight", Dtype::BF16, &[2], half)],
        || {
            file_of(&state_of(|writer| {
                from_numpy(writer, [1.5, -2.0], "bfloat16");
            }))
        },
    );
    group.loads(
        "keys-equal",
        "the keys are 1, 1.0 and True, which are one",
        named(&["1"]),
        || {
            let pushes: [fn(&mut Writer); 3] = [
                |writer| {
                    writer.int(1);
                },
                |writer| {
                    writer.float(1.0);
                },
                |writer| {
                    writer.bool(true);
                },
            ];
            dict(&pushes)
        },
    );
    group.loads(
        "keys-nan-twice",
        "two keys are no number, and no number equals itself",
        named(&["nan", "nan#2"]),
        || {
            dict(&[
                |writer| {
                    writer.float(f64::NAN);
                },
                |writer| {
                    writer.float(f64::NAN);
                },
            ])
        },
    );
    group.loads(
        "keys-bytes-and-text",
        "a key of bytes is beside the same text",
        named(&["b'w'", "w"]),
        || {
            dict(&[
                |writer| {
                    writer.bytes(b"w");
                },
                |writer| {
                    writer.text("w");
                },
            ])
        },
    );
}

/// A tensor over a storage whose key is pushed by `key`.
fn keyed(writer: &mut Writer, key: impl FnOnce(&mut Writer) -> &mut Writer) {
    weight_pickle().write_with(writer, |writer, tensor| {
        writer
            .mark()
            .text("storage")
            .global("torch", "FloatStorage");
        key(writer)
            .text("cpu")
            .int(tensor.count)
            .tuple()
            .persistent_id();
    });
}

/// BUILD with the state of an old tensor: storage, offset, sizes, strides.
fn view(writer: &mut Writer, offset: i64, len: usize) {
    writer.mark();
    TensorPickle::float("0", &[4]).write_storage(writer);
    writer
        .int(offset)
        .int_tuple(&[len])
        .int_tuple(&[1])
        .tuple()
        .build();
}

/// A tensor of a device that PyTorch pickles by way of NumPy.
fn from_numpy(writer: &mut Writer, numbers: [f32; 2], dtype: &str) {
    let bytes = numbers.map(f32::to_le_bytes).concat();
    writer
        .global("torch._utils", "_rebuild_device_tensor_from_numpy")
        .mark();
    writer
        .global("numpy.core.multiarray", "_reconstruct")
        .mark();
    writer
        .global("numpy", "ndarray")
        .int_tuple(&[0])
        .bytes(b"b")
        .tuple()
        .reduce();
    writer.mark().int(1).int_tuple(&[2]);
    writer
        .global("numpy", "dtype")
        .mark()
        .text("f4")
        .bool(false)
        .bool(true)
        .tuple()
        .reduce();
    writer.bool(false).bytes(&bytes).tuple().build();
    writer
        .global("torch", dtype)
        .text("xla:0")
        .bool(false)
        .tuple()
        .reduce();
}

/// A dict of the one tensor under each of these keys.
fn dict(keys: &[fn(&mut Writer)]) -> Vec<u8> {
    let mut writer = Writer::new(2);
    writer.empty_dict().mark();
    for key in keys {
        key(&mut writer);
        weight_pickle().write(&mut writer);
    }
    writer.set_items();
    file_of(&writer.finish())
}

fn named(names: &[&str]) -> Vec<crate::ExpectedTensor> {
    let tensors = names.iter().flat_map(|name| {
        weight().into_iter().map(|mut tensor| {
            tensor.name = (*name).to_owned();
            tensor
        })
    });
    tensors.collect()
}
