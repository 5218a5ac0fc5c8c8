//! Skeletons and how checkpoints fill them.

use std::path::Path;

use safetensors::tensor::TensorView;
use tensorlift::skeleton::{FillRules, Problems, Skeleton};
use tensorlift::{Checkpoint, Dtype, DtypePolicy, ErrorKind, LoadOptions, Loaded};

/// A checkpoint of F32 tensors whose elements count up from a different number in each.
fn checkpoint(folder: &Path, tensors: &[(&str, &[usize])]) -> Checkpoint {
    let contents: Vec<Vec<u8>> = (tensors.iter().zip(0..))
        .map(|((_, shape), index)| {
            let elements = shape.iter().product::<usize>();
            (0..elements)
                .flat_map(|element| (index as f32 * 1000.0 + element as f32).to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&contents)
        .map(|((name, shape), content)| {
            let view = TensorView::new(safetensors::Dtype::F32, shape.to_vec(), content).unwrap();
            (*name, view)
        });
    let path = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    Checkpoint::open(path).unwrap()
}

fn skeleton(parameters: &[(&str, &[usize])]) -> Skeleton {
    let mut skeleton = Skeleton::new();
    for (name, shape) in parameters {
        skeleton
            .add(*name, shape.to_vec(), Some(Dtype::F32))
            .unwrap();
    }
    skeleton
}

fn values(loaded: &Loaded, name: &str) -> Vec<f32> {
    loaded
        .tensor(name)
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec()
}

fn problems(checkpoint: &Checkpoint, skeleton: &Skeleton, rules: &FillRules) -> Problems {
    let (_, problems) = skeleton.compared(checkpoint.catalog(), rules).unwrap();
    if !problems.is_empty() {
        let error = checkpoint.loader().fill_by(skeleton, rules).unwrap_err();
        assert_eq!(error.get_ref().downcast_ref(), Some(&problems));
    }
    problems
}

#[test]
fn a_skeleton_of_a_checkpoint_is_filled_with_its_bytes() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
    for name in [
        "tiny-model",
        "sharded-torch",
        "torch/views.pt",
        "torch/deflated.pt",
    ] {
        let checkpoint = Checkpoint::open(Path::new(fixtures).join(name)).unwrap();
        let skeleton = Skeleton::from_catalog(checkpoint.catalog());
        let written = serde_json::to_string(&skeleton).unwrap();
        assert_eq!(
            serde_json::from_str::<Skeleton>(&written).unwrap(),
            skeleton
        );
        let filled = checkpoint.loader().fill(&skeleton).unwrap();
        let expected = checkpoint.loader().load().unwrap();
        assert_eq!(filled.tensors().len(), expected.tensors().len());
        for tensor in &expected {
            let found = filled.tensor(tensor.name()).unwrap();
            assert!(found.is_contiguous());
            assert_eq!(
                (found.dtype(), found.shape()),
                (tensor.dtype(), tensor.shape())
            );
            let expected = tensor.to_contiguous().unwrap();
            assert!(
                found.as_bytes().unwrap() == expected.as_bytes().unwrap(),
                "{tensor:?}"
            );
        }
    }
}

#[test]
fn tensors_are_renamed_fused_and_split() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: &[(&str, &[usize])] = &[
        ("module.layers.0.q.weight", &[2, 3]),
        ("module.layers.0.k.weight", &[1, 3]),
        ("module.layers.0.v.weight", &[1, 3]),
        ("module.layers.0.left", &[2, 2]),
        ("module.layers.0.right", &[2, 1]),
        ("module.layers.0.gate_up.weight", &[3, 2]),
        ("module.layers.0.columns", &[2, 3]),
        ("module.old.norm", &[2]),
    ];
    let checkpoint = checkpoint(folder.path(), tensors);
    let skeleton = skeleton(&[
        ("layers.0.qkv.weight", &[4, 3]),
        ("layers.0.both", &[2, 3]),
        ("layers.0.gate.weight", &[1, 2]),
        ("layers.0.up.weight", &[2, 2]),
        ("layers.0.one", &[2, 1]),
        ("layers.0.two", &[2, 2]),
        ("norm", &[2]),
    ]);
    let rules = FillRules::new()
        .wrappers(["module"])
        .rename("module.old.*", "module.*")
        .fuse(
            ["*.q.weight", "*.k.weight", "*.v.weight"],
            "*.qkv.weight",
            0,
        )
        .fuse(["*.left", "*.right"], "*.both", 1)
        .split("*.gate_up.weight", ["*.gate.weight", "*.up.weight"], 0)
        .split("*.columns", ["*.one", "*.two"], 1);
    let filled = checkpoint.loader().fill_by(&skeleton, &rules).unwrap();
    let expected: [(&str, &[f32]); 7] = [
        (
            "layers.0.qkv.weight",
            &[
                0., 1., 2., 3., 4., 5., 1000., 1001., 1002., 2000., 2001., 2002.,
            ],
        ),
        ("layers.0.both", &[3000., 3001., 4000., 3002., 3003., 4001.]),
        ("layers.0.gate.weight", &[5000., 5001.]),
        ("layers.0.up.weight", &[5002., 5003., 5004., 5005.]),
        ("layers.0.one", &[6000., 6003.]),
        ("layers.0.two", &[6001., 6002., 6004., 6005.]),
        ("norm", &[7000., 7001.]),
    ];
    for (name, expected) in expected {
        assert_eq!(values(&filled, name), expected, "{name}");
    }
    // The same in another dtype.
    let options = LoadOptions::default().dtype(DtypePolicy::To(Dtype::F64));
    let wide = checkpoint.loader().options(options);
    let error = wide.fill_by(&skeleton, &rules).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

#[test]
fn floats_are_converted_to_the_dtypes_of_the_skeleton_if_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(folder.path(), &[("a", &[2]), ("b", &[1])]);
    let mut skeleton = Skeleton::new();
    skeleton.add("c", [3], Some(Dtype::F64)).unwrap();
    let rules = FillRules::new().fuse(["a", "b"], "c", 0);
    let found = problems(&checkpoint, &skeleton, &rules);
    assert_eq!((found.dtypes.len(), found.count()), (2, 2));
    let filled = checkpoint
        .loader()
        .fill_by(&skeleton, &rules.convert())
        .unwrap();
    let tensor = filled.tensor("c").unwrap();
    assert_eq!(tensor.as_slice::<f64>().unwrap(), [0., 1., 1000.]);
}

#[test]
fn all_problems_are_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: &[(&str, &[usize])] = &[
        ("layer.wieght", &[2]),
        ("wrong.shape", &[2, 3]),
        ("q", &[2, 3]),
        ("k", &[2, 4]),
        ("twice", &[1]),
        ("again", &[1]),
        ("extra", &[1]),
    ];
    let checkpoint = checkpoint(folder.path(), tensors);
    let skeleton = skeleton(&[
        ("layer.weight", &[2]),
        ("wrong.shape", &[3, 2]),
        ("qk", &[4, 3]),
        ("twice", &[1]),
        ("absent", &[1]),
    ]);
    let rules = FillRules::new()
        .fuse(["q", "k"], "qk", 0)
        .rename("again", "twice")
        .optional("absent");
    let found = problems(&checkpoint, &skeleton, &rules);
    assert_eq!(found.missing.len(), 1);
    assert_eq!(
        found.missing[0].did_you_mean.as_deref(),
        Some("layer.wieght")
    );
    // The file lists them by a rule of its own.
    let mut unexpected = found.unexpected.clone();
    unexpected.sort_unstable();
    assert_eq!(unexpected, ["extra", "layer.wieght"]);
    let shapes: Vec<&str> = found
        .shapes
        .iter()
        .map(|shape| shape.name.as_str())
        .collect();
    assert_eq!(shapes, ["wrong.shape", "qk"]);
    assert_eq!(found.shapes[1].sources, ["q", "k"]);
    assert_eq!(found.ambiguous.len(), 1);
    let mut claimants = found.ambiguous[0].1.clone();
    claimants.sort_unstable();
    assert_eq!(claimants, ["again", "twice"]);
    let text = found.to_string();
    for part in [
        "missing: layer.weight (is it layer.wieght?)",
        "extra",
        "q [2, 3] k [2, 4]",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn tied_parameters_share_memory() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(folder.path(), &[("embed", &[4])]);
    let mut skeleton = skeleton(&[("embed", &[4]), ("head", &[4])]);
    let found = problems(&checkpoint, &skeleton, &FillRules::new());
    assert_eq!(found.missing.len(), 1);
    skeleton.tie(["head", "embed"]).unwrap();
    let filled = checkpoint.loader().fill(&skeleton).unwrap();
    let address = |name: &str| filled.tensor(name).unwrap().as_bytes().unwrap().as_ptr();
    assert_eq!(address("embed"), address("head"));
    assert_eq!(values(&filled, "head"), [0., 1., 2., 3.]);
    assert!(skeleton.tie(["head", "none"]).is_err());
    assert!(skeleton.tie(["head", "embed"]).is_err());
}

#[test]
fn parameters_that_the_checkpoint_lacks_are_filled_by_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(folder.path(), &[("a", &[2])]);
    let skeleton = skeleton(&[("a", &[2]), ("new.b", &[3])]);
    let rules = FillRules::new().optional("new");
    let filled = checkpoint.loader().fill_by(&skeleton, &rules).unwrap();
    assert_eq!(filled.tensors().len(), 1);
    let rules = rules.init(|parameter, bytes| {
        assert_eq!(parameter.name, "new.b");
        for element in bytes.chunks_exact_mut(4) {
            element.copy_from_slice(&0.5f32.to_le_bytes());
        }
    });
    let filled = checkpoint.loader().fill_by(&skeleton, &rules).unwrap();
    assert_eq!(values(&filled, "new.b"), [0.5; 3]);
    assert_eq!(values(&filled, "a"), [0., 1.]);
}

#[test]
fn rules_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(folder.path(), &[("a", &[2])]);
    let one = skeleton(&[("a", &[2])]);
    let refused = |skeleton: &Skeleton, rules: FillRules| {
        let error = skeleton.matched(checkpoint.catalog(), &rules).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        error.to_string()
    };
    refused(&one, FillRules::new().rename("*.a.*", "b.*"));
    let two = skeleton(&[("model.a", &[2]), ("a", &[2])]);
    let error = refused(&two, FillRules::new().wrappers(["model."]));
    assert!(error.contains("model.a and a"), "{error}");
    let rules = FillRules::new()
        .fuse(["a", "b"], "x", 0)
        .fuse(["*"], "*", 0);
    let error = refused(&one, rules.split("a", ["y", "z"], 0));
    assert!(error.contains(r#"a by ["a", "*", "a"]"#), "{error}");
    // A division that does not add up.
    let parts = skeleton(&[("x", &[1]), ("y", &[2])]);
    let rules = FillRules::new().split("a", ["x", "y"], 0);
    assert_eq!(problems(&checkpoint, &parts, &rules).shapes.len(), 2);
    let rules = FillRules::new().split("a", ["x", "y"], 3);
    assert_eq!(problems(&checkpoint, &parts, &rules).shapes.len(), 2);
}

#[test]
fn wrappers_are_left_out_in_any_nesting() {
    let folder = tempfile::tempdir().unwrap();
    let name = "_orig_mod.module.layers._orig_mod.0.weight";
    let checkpoint = checkpoint(folder.path(), &[(name, &[2])]);
    let skeleton = skeleton(&[("model.layers.0.weight", &[2])]);
    let rules = FillRules::new().wrappers(["module.", "model.", "_orig_mod."]);
    let filled = checkpoint.loader().fill_by(&skeleton, &rules).unwrap();
    assert_eq!(values(&filled, "model.layers.0.weight"), [0., 1.]);
}
