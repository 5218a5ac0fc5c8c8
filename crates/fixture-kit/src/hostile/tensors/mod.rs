//! Tensors whose arguments cannot be true, and odd ones that can.

mod arguments;
mod close;
mod names;

use tensorlift_tensor_meta::Dtype;

use super::parts::{expected, file_of, state_of, weight_bytes, weight_pickle};
use super::{Case, Group};
use crate::ExpectedTensor;
use crate::torch::TensorPickle;

/// Adds tensors whose arguments cannot be true, and odd ones that can.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "tensor",
        file_name: "pytorch_model.bin",
        all,
    };
    layouts(&mut group);
    sound(&mut group);
    arguments::add(&mut group);
    close::add(&mut group);
    names::add(&mut group);
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
    group.loads(
        "expanded-rows",
        "each row is the same two elements",
        floats(&[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]),
        || {
            file(|tensor| {
                tensor.size = vec![3, 2];
                tensor.stride = vec![0, 1];
            })
        },
    );
    for (name, why, size, stride) in [
        (
            "huge-expanded",
            "one element becomes 4 TiB by a stride of zero",
            vec![1i64 << 40],
            vec![0i64],
        ),
        (
            "huge-overlapping",
            "overlapping rows become 2^60 elements",
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
