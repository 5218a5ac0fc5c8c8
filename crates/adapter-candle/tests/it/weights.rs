use std::collections::HashMap;
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::Shard;
use safetensors::tensor::TensorView;
use tensorlift::Checkpoint;
use tensorlift::skeleton::FillRules;
use tensorlift_candle::{ShardedVarBuilder, Weights, skeleton_of, var_builder};

use crate::fixture;

/// The elements of a tensor in row-major order, as little-endian bytes.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let whole = match tensor.is_contiguous() {
        true => tensor.clone(),
        false => tensor.force_contiguous().unwrap(),
    };
    let (storage, layout) = whole.storage_and_layout();
    let first = layout.start_offset() * tensor.dtype().size_in_bytes();
    let len = tensor.elem_count() * tensor.dtype().size_in_bytes();
    let Storage::Cpu(storage) = &*storage else {
        panic!("not on the CPU");
    };
    let bytes: &[u8] = match storage {
        CpuStorage::U8(elements)
        | CpuStorage::F8E8M0(elements)
        | CpuStorage::F4(elements)
        | CpuStorage::F6E2M3(elements)
        | CpuStorage::F6E3M2(elements) => elements,
        CpuStorage::F8E4M3(elements) => bytemuck::cast_slice(elements),
        CpuStorage::U32(elements) => bytemuck::cast_slice(elements),
        CpuStorage::I16(elements) => bytemuck::cast_slice(elements),
        CpuStorage::I32(elements) => bytemuck::cast_slice(elements),
        CpuStorage::I64(elements) => bytemuck::cast_slice(elements),
        CpuStorage::F16(elements) => bytemuck::cast_slice(elements),
        CpuStorage::BF16(elements) => bytemuck::cast_slice(elements),
        CpuStorage::F32(elements) => bytemuck::cast_slice(elements),
        CpuStorage::F64(elements) => bytemuck::cast_slice(elements),
    };
    bytes[first..][..len].to_vec()
}

/// Writes tensors of given dtypes and shapes; their bytes are counted up.
fn write(path: &Path, tensors: &[(&str, safetensors::Dtype, Vec<usize>)]) {
    let content: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
    let views = tensors.iter().map(|(name, dtype, shape)| {
        let elements: usize = shape.iter().product();
        let len = elements * dtype.bitsize() / 8;
        let view = TensorView::new(*dtype, shape.clone(), &content[..len]).unwrap();
        (*name, view)
    });
    let views: HashMap<&str, TensorView<'_>> = views.collect();
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn every_tensor_is_the_one_that_candle_loads() {
    let folder = fixture("tiny-model");
    let expected = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
    let expected = expected.unwrap();
    let weights = Weights::load(&folder, &Device::Cpu).unwrap();
    assert!(expected.len() > 20);
    for (name, expected) in &expected {
        let found = weights.tensor(name).unwrap();
        assert_eq!(
            (found.dtype(), found.shape()),
            (expected.dtype(), expected.shape()),
            "{name}"
        );
        assert!(bytes(found) == bytes(expected), "{name}");
        assert!(found.is_contiguous());
    }
    assert!(weights.unused().is_empty());
}

#[test]
fn tensors_of_one_dtype_share_one_allocation() {
    let weights = Weights::load(fixture("tiny-model"), &Device::Cpu).unwrap();
    let storage = |name: &str| {
        let tensor = weights.tensor(name).unwrap();
        let (storage, layout) = tensor.storage_and_layout();
        (&raw const *storage, layout.start_offset())
    };
    let (one, first) = storage("embeddings.word_embeddings.weight");
    let (other, second) = storage("embeddings.LayerNorm.weight");
    assert_eq!(one, other);
    assert_ne!(first, second);
    // Asked for in their own dtype, they are not copied either.
    let builder = weights.var_builder(DType::F32, &Device::Cpu);
    let name = "embeddings.LayerNorm.weight";
    let shape = weights.tensor(name).unwrap().shape().clone();
    let tensor = builder.get(shape, name).unwrap();
    assert_eq!(&raw const *tensor.storage_and_layout().0, one);
}

#[test]
fn strided_tensors_of_pytorch_files_are_gathered() {
    let mut strided = 0;
    for name in [
        "torch/views.pt",
        "torch/state_dict.bin",
        "torch/big_endian.pt",
    ] {
        let checkpoint = tensorlift::Checkpoint::open(fixture(name)).unwrap();
        let expected = checkpoint.loader().load().unwrap();
        let weights = Weights::load(fixture(name), &Device::Cpu).unwrap();
        for tensor in &expected {
            let Ok(found) = weights.tensor(tensor.name()) else {
                continue;
            };
            strided += usize::from(!tensor.is_contiguous());
            let expected = tensor.to_contiguous().unwrap();
            assert_eq!(found.dims(), tensor.shape(), "{name} {tensor:?}");
            assert!(
                bytes(found) == expected.as_bytes().unwrap(),
                "{name} {tensor:?}"
            );
        }
    }
    assert!(strided >= 3, "{strided} strided tensors");
}

#[test]
fn dtypes_that_candle_lacks_are_errors_with_the_name() {
    use safetensors::Dtype;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [
        ("known", Dtype::F16, vec![3]),
        ("scale", Dtype::F8_E8M0, vec![5]),
        ("flag", Dtype::BOOL, vec![2]),
        ("u16", Dtype::U16, vec![4]),
        ("e5m2", Dtype::F8_E5M2, vec![4]),
        ("f4", Dtype::F4, vec![4]),
    ];
    write(&path, &tensors);
    let weights = Weights::load(&path, &Device::Cpu).unwrap();
    assert_eq!(weights.tensor("known").unwrap().dtype(), DType::F16);
    assert_eq!(bytes(weights.tensor("scale").unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(weights.tensor("flag").unwrap().dtype(), DType::U8);
    for name in ["u16", "e5m2", "f4"] {
        let error = weights.tensor(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("dtype"), "{error}");
        let builder = weights.var_builder(DType::F32, &Device::Cpu);
        assert!(builder.contains_tensor(name));
        assert!(builder.get(4, name).is_err());
    }
    assert!(weights.unused().is_empty() && weights.missing().is_empty());
}

#[test]
fn what_was_asked_for_is_recorded() {
    let weights = Weights::load(fixture("tiny-model"), &Device::Cpu).unwrap();
    let builder = weights
        .var_builder(DType::F32, &Device::Cpu)
        .pp("embeddings");
    assert!(builder.contains_tensor("LayerNorm.weight"));
    assert!(weights.asked().is_empty());
    builder.get_unchecked("LayerNorm.weight").unwrap();
    let error = builder.get(3, "LayerNorm.bias_").unwrap_err();
    assert!(
        error.to_string().contains("embeddings.LayerNorm.bias_"),
        "{error}"
    );
    // A wrong shape is a refusal, not a miss.
    let error = builder.get((1, 2, 3), "LayerNorm.bias").unwrap_err();
    assert!(
        error.to_string().contains("embeddings.LayerNorm.bias"),
        "{error}"
    );
    let asked = ["LayerNorm.bias", "LayerNorm.bias_", "LayerNorm.weight"];
    assert_eq!(
        weights.asked(),
        asked.map(|name| format!("embeddings.{name}"))
    );
    assert_eq!(weights.missing(), ["embeddings.LayerNorm.bias_"]);
    let unused = weights.unused();
    assert!(unused.contains(&"embeddings.word_embeddings.weight".to_owned()));
    assert!(!unused.contains(&"embeddings.LayerNorm.weight".to_owned()));
}

#[test]
fn floats_are_converted_while_they_are_loaded() {
    let folder = fixture("tiny-model");
    let expected = Weights::load(&folder, &Device::Cpu).unwrap();
    let converted = Weights::load_as(&folder, DType::BF16, &Device::Cpu).unwrap();
    let mut kept = 0;
    for name in expected.unused() {
        let (expected, found) = (
            expected.tensor(&name).unwrap(),
            converted.tensor(&name).unwrap(),
        );
        if expected.dtype().is_float() {
            assert_eq!(found.dtype(), DType::BF16, "{name}");
            assert_eq!(
                bytes(found),
                bytes(&expected.to_dtype(DType::BF16).unwrap()),
                "{name}"
            );
        } else {
            assert_eq!(bytes(found), bytes(expected), "{name}");
            kept += 1;
        }
    }
    assert!(kept > 0);
    // A builder of that dtype copies nothing.
    let name = "embeddings.LayerNorm.weight";
    let builder = converted.var_builder(DType::BF16, &Device::Cpu);
    let tensor = builder.get_unchecked(name).unwrap();
    let storage = |tensor: &Tensor| &raw const *tensor.storage_and_layout().0;
    assert_eq!(storage(&tensor), storage(converted.tensor(name).unwrap()));
    let builder = var_builder(folder, DType::F16, &Device::Cpu).unwrap();
    assert_eq!(builder.get_unchecked(name).unwrap().dtype(), DType::F16);
}

#[test]
fn shares_of_ranks_are_even_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &[("w", safetensors::Dtype::F32, vec![4, 6])]);
    let weights = Weights::load(&path, &Device::Cpu).unwrap();
    let whole = weights.tensor("w").unwrap().clone();
    let builder = weights.sharded_var_builder(DType::F32, &Device::Cpu);
    let get = |dim, rank, world_size| {
        let shard = Shard {
            dim,
            rank,
            world_size,
        };
        builder.get_with_hints((4, 6), "w", shard)
    };
    assert_eq!(bytes(&get(0, 0, 1).unwrap()), bytes(&whole));
    for (dim, world) in [(0, 2), (0, 4), (1, 2), (1, 3)] {
        let ranks: Vec<Tensor> = (0..world)
            .map(|rank| get(dim, rank, world).unwrap())
            .collect();
        let joined = Tensor::cat(&ranks, dim).unwrap();
        assert_eq!(
            bytes(&joined),
            bytes(&whole),
            "dimension {dim}, {world} ranks"
        );
        // A share does not keep the whole in memory.
        assert_eq!(ranks[0].storage_and_layout().1.start_offset(), 0);
    }
    for (dim, rank, world) in [(0, 0, 3), (2, 0, 2), (0, 2, 2), (0, 0, 0)] {
        assert!(get(dim, rank, world).is_err(), "{dim} {rank} {world}");
    }
}

#[test]
fn shares_are_cut_while_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let f32 = safetensors::Dtype::F32;
    let tensors = [
        ("rows", f32, vec![4, 6]),
        ("columns", f32, vec![4, 6]),
        ("tied", f32, vec![6, 2]),
        ("norm", f32, vec![6]),
        ("not used", f32, vec![1000]),
        ("u16", safetensors::Dtype::U16, vec![2]),
    ];
    write(&path, &tensors);
    let whole = Weights::load(&path, &Device::Cpu).unwrap();
    for rank in 0..2 {
        let build = |weights: ShardedVarBuilder| {
            let share = |name, dim| {
                let shard = Shard {
                    dim,
                    rank,
                    world_size: 2,
                };
                weights.get_with_hints((), name, shard)
            };
            assert!(weights.contains_tensor("not used"));
            assert!(!weights.contains_tensor("none"));
            Ok([
                share("rows", 0)?,
                share("columns", 1)?,
                share("tied", 0)?,
                weights.get((6, 2), "tied")?,
                weights.get(6, "norm")?,
            ])
        };
        let weights = Weights::load_shares(&path, DType::F32, &Device::Cpu, build).unwrap();
        let builder = weights.sharded_var_builder(DType::F32, &Device::Cpu);
        let found = build(builder.clone()).unwrap();
        let part = |name: &str, dim: usize| {
            let tensor = whole.tensor(name).unwrap();
            let len = tensor.dims()[dim] / 2;
            tensor.narrow(dim, rank * len, len).unwrap()
        };
        let expected = [
            part("rows", 0),
            part("columns", 1),
            part("tied", 0),
            whole.tensor("tied").unwrap().clone(),
            whole.tensor("norm").unwrap().clone(),
        ];
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.dims(), expected.dims());
            assert_eq!(bytes(found), bytes(expected));
            assert!(found.is_contiguous());
        }
        // The share of `tied` lies within the whole.
        let elements = 2 * 6 + 4 * 3 + 6 * 2 + 6;
        assert!(weights.report().bytes_wanted <= 4 * (elements + 3 * 2));
        assert_eq!(weights.unused(), ["not used", "u16"]);
        // What was not requested at first is not there later.
        let error = builder.get(1000, "not used").unwrap_err().to_string();
        assert!(error.contains("not used"), "{error}");
    }
}

#[test]
fn skeletons_are_filled_by_rules() {
    let build = |weights: VarBuilder<'static>| {
        assert_eq!(weights.dtype(), DType::BF16);
        candle_nn::linear(32, 96, weights.pp("qkv"))
    };
    let skeleton = skeleton_of(DType::BF16, build).unwrap();
    let parts = |kind: &str| ["query", "key", "value"].map(|part| format!("{part}.{kind}"));
    let rules = FillRules::new()
        .rename("encoder.layer.0.attention.self.*", "*")
        .fuse(parts("weight"), "qkv.weight", 0)
        .fuse(parts("bias"), "qkv.bias", 0)
        .ignore("*")
        .convert();
    let folder = fixture("tiny-model");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let weights = Weights::fill(checkpoint.loader(), &skeleton, &rules, &Device::Cpu).unwrap();
    let layer = build(weights.var_builder(DType::BF16, &Device::Cpu)).unwrap();
    let whole = Weights::load(&folder, &Device::Cpu).unwrap();
    let joined = |kind: &str| {
        let part = |name| {
            let name = format!("encoder.layer.0.attention.self.{name}.{kind}");
            whole.tensor(&name).unwrap().clone()
        };
        let joined = Tensor::cat(&["query", "key", "value"].map(part), 0).unwrap();
        joined.to_dtype(DType::BF16).unwrap()
    };
    assert_eq!(bytes(layer.weight()), bytes(&joined("weight")));
    assert_eq!(bytes(layer.bias().unwrap()), bytes(&joined("bias")));
    assert_eq!(weights.asked(), ["qkv.bias", "qkv.weight"]);
}

#[test]
fn a_model_that_cannot_be_built_is_refused_before_anything_is_read() {
    let load = |name: &'static str, shard| {
        let folder = fixture("tiny-model");
        let build = |weights: ShardedVarBuilder| weights.get_with_hints((), name, shard);
        Weights::load_shares(folder, DType::F32, &Device::Cpu, build).unwrap_err()
    };
    let shard = |rank, world_size| Shard {
        dim: 0,
        rank,
        world_size,
    };
    let error = load("no.such.tensor", shard(0, 2));
    assert_eq!(error.kind(), tensorlift::ErrorKind::Misuse);
    assert!(error.to_string().contains("no.such.tensor"), "{error}");
    // 32 elements among three ranks; the third of two ranks.
    load("embeddings.LayerNorm.weight", shard(0, 3));
    load("embeddings.LayerNorm.weight", shard(2, 2));
}

#[test]
fn tensors_without_elements_and_scalars_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [
        ("empty", safetensors::Dtype::F16, vec![0, 3]),
        ("scalar", safetensors::Dtype::F32, vec![]),
    ];
    write(&path, &tensors);
    let weights = Weights::load(&path, &Device::Cpu).unwrap();
    let empty = weights.tensor("empty").unwrap();
    assert_eq!((empty.dtype(), empty.dims()), (DType::F16, &[0, 3][..]));
    let scalar = weights.tensor("scalar").unwrap();
    assert_eq!((scalar.rank(), bytes(scalar)), (0, vec![0, 1, 2, 3]));
}

#[test]
fn failures_name_the_file() {
    let error = Weights::load("no/such/folder", &Device::Cpu).unwrap_err();
    assert_eq!(error.kind(), tensorlift::ErrorKind::NotFound);
    assert!(error.to_string().contains("no/such/folder"));
}
