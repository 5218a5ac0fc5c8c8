//! Checkpoints made of parts, and memory that the caller holds.

use std::sync::Arc;

use tensorlift::{
    Checkpoint, Dtype, ErrorKind, HostDevice, LoadOptions, MemoryStorage, Slice, Storage,
};
use tensorlift_fixture_kit::{CheckpointSpec, Format};

fn spec(names: &[&str]) -> CheckpointSpec {
    let spec = CheckpointSpec::new(Format::safetensors());
    let add = |spec: CheckpointSpec, name: &&str| spec.tensor(*name, Dtype::F32, [3, 4]);
    names.iter().fold(spec, add)
}

fn storage(spec: &CheckpointSpec) -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new(spec.to_bytes()))
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    let entries = checkpoint.catalog().entries().iter();
    entries.map(tensorlift::Entry::name).collect()
}

/// Loads a checkpoint and compares every tensor with what its spec says.
fn check(checkpoint: &Checkpoint, specs: &[&CheckpointSpec]) {
    let loaded = checkpoint.loader().load().unwrap();
    let expected = specs.iter().flat_map(|spec| spec.expected());
    let mut count = 0;
    for expected in expected {
        let tensor = loaded.tensor(&expected.name).unwrap();
        assert!(
            tensor.as_bytes().unwrap() == expected.bytes,
            "{}",
            expected.name
        );
        count += 1;
    }
    assert_eq!(loaded.tensors().len(), count);
}

#[test]
fn shards_from_storages_follow_the_index() {
    let (one, two) = (spec(&["a", "b"]), spec(&["c"]));
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors",
        "c": "2.safetensors"}}"#;
    let storages = || {
        [
            ("2.safetensors", storage(&two)),
            ("1.safetensors", storage(&one)),
        ]
    };
    let checkpoint = Checkpoint::from_shards(Some(index), storages()).unwrap();
    let files: Vec<_> = checkpoint
        .files()
        .map(|path| path.to_str().unwrap())
        .collect();
    assert_eq!(files, ["1.safetensors", "2.safetensors"]);
    assert_eq!(checkpoint.shards().len(), 2);
    check(&checkpoint, &[&one, &two]);

    // Without an index, in the order given.
    let checkpoint = Checkpoint::from_shards(None, storages()).unwrap();
    assert_eq!(names(&checkpoint), ["c", "a", "b"]);
    check(&checkpoint, &[&one, &two]);

    let lacking = [("1.safetensors", storage(&one))];
    let error = Checkpoint::from_shards(Some(index), lacking).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.path().unwrap().to_str(), Some("2.safetensors"));
    let misplaced = [
        ("1.safetensors", storage(&two)),
        ("2.safetensors", storage(&one)),
    ];
    Checkpoint::from_shards(Some(index), misplaced).unwrap_err();
    let error = Checkpoint::from_shards(Some(b"{"), lacking_none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

fn lacking_none() -> [(&'static str, Arc<dyn Storage>); 0] {
    []
}

#[test]
fn parts_are_a_checkpoint_if_they_fit() {
    let spec = spec(&["a", "b"]);
    let whole = Checkpoint::from_storage("x", storage(&spec)).unwrap();
    let catalog = Arc::clone(whole.catalog());
    let checkpoint = Checkpoint::from_parts(Arc::clone(&catalog), whole.shards().to_vec()).unwrap();
    check(&checkpoint, &[&spec]);

    let error = Checkpoint::from_parts(Arc::clone(&catalog), Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let bytes = MemoryStorage::new(vec![0; 100]);
    let short = tensorlift::Shard::new("short", Arc::new(bytes));
    let error = Checkpoint::from_parts(catalog, vec![short]).unwrap_err();
    assert_eq!(
        (error.kind(), error.tensor()),
        (ErrorKind::Misuse, Some("a"))
    );
}

#[test]
fn two_checkpoints_are_one() {
    let (base, adapter) = (spec(&["a", "b"]), spec(&["a.lora"]));
    let open = |spec: &CheckpointSpec| Checkpoint::from_storage("x", storage(spec)).unwrap();
    let joined = open(&base).joined(&open(&adapter)).unwrap();
    assert_eq!(joined.shards().len(), 2);
    check(&joined, &[&base, &adapter]);

    // What both have is an error, unless one is laid over the other or renamed.
    let other = CheckpointSpec::new(Format::safetensors()).tensor("b", Dtype::U8, [5]);
    let error = open(&base).joined(&open(&other)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(error.to_string().contains(r#"["b"]"#), "{error}");
    let overlaid = open(&base).overlaid(&open(&other)).unwrap();
    let loaded = overlaid.loader().load().unwrap();
    assert_eq!(loaded.tensor("b").unwrap().dtype(), Dtype::U8);
    assert_eq!(loaded.tensors().len(), 2);
    let renamed = open(&other).renamed(|entry| Some(format!("other.{}", entry.name())));
    let joined = open(&base).joined(&renamed.unwrap()).unwrap();
    assert_eq!(names(&joined), ["a", "b", "other.b"]);
}

#[test]
fn tensors_that_would_get_one_name_are_all_named() {
    let spec = spec(&["a", "b", "c", "d"]);
    let checkpoint = Checkpoint::from_storage("x", storage(&spec)).unwrap();
    let error = checkpoint.renamed(|entry| match entry.name() {
        "a" => None,
        "c" => Some("other"),
        _ => Some("same"),
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let found = error.to_string();
    assert!(
        found.contains(r#"["b", "d"] would all be called "same""#),
        "{found}"
    );
}

#[test]
fn parameters_of_the_caller_are_filled_again_and_again() {
    let spec = spec(&["a", "b"]);
    let checkpoint = Checkpoint::from_storage("x", storage(&spec)).unwrap();
    let mut memory = [[0.0f32; 12], [0.0; 12]];
    for _ in 0..2 {
        let parameters = ["a", "b"].into_iter().zip(&mut memory);
        let parameters = parameters.map(|(name, values)| (name, &mut values[..]));
        let loaded = checkpoint.loader().load_into(parameters).unwrap();
        assert!(loaded.missing.is_empty() && loaded.unexpected.is_empty());
        assert_eq!(loaded.report.devices, ["memory of the caller"]);
        assert_eq!(loaded.report.wall, loaded.report.phases.sum());
        for (expected, values) in spec.expected().iter().zip(&mut memory) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            assert_eq!(bytes, expected.bytes);
            values.fill(1.0);
        }
    }
    let options = LoadOptions::default().strict(true);
    let loader = checkpoint.loader().options(options);
    let error = loader.load_into([("a", &mut memory[0][..])]).unwrap_err();
    assert!(error.to_string().contains('b'), "{error}");
    // A name that is not selected is not unexpected.
    let loader = loader.select(|entry| entry.name() == "a");
    let loaded = loader.load_into([("a", &mut memory[0][..])]).unwrap();
    assert!(loaded.unexpected.is_empty());
}

#[test]
fn tensors_are_handed_on_one_by_one() {
    let spec = spec(&["a", "b", "c"]);
    let checkpoint = Checkpoint::from_storage("x", storage(&spec)).unwrap();
    let mut names = Vec::new();
    let loader = checkpoint.loader().select(|entry| entry.name() != "b");
    let report = loader.load_each(|tensor| {
        names.push(tensor.name().to_owned());
        Ok(())
    });
    let report = report.unwrap();
    assert_eq!(
        (names, report.tensors),
        (vec!["a".to_owned(), "c".to_owned()], 2)
    );
    assert_eq!(report.wall, report.phases.sum());
    assert_eq!(report.devices, ["host"]);
}

#[test]
fn a_share_of_columns_takes_its_own_memory_alone() {
    let spec = CheckpointSpec::new(Format::safetensors()).tensor("w", Dtype::F32, [600, 4000]);
    let checkpoint = Checkpoint::from_storage("x", storage(&spec)).unwrap();
    let slice = Slice::rank(1, 1, 4);
    let share = checkpoint.sliced(|_| Some(slice)).unwrap();
    let loaded = share.loader().place_on(HostDevice::new()).load().unwrap();
    let tensor = loaded.tensor("w").unwrap();
    assert!(tensor.is_contiguous());
    assert_eq!(tensor.shape(), [600, 1000]);
    assert_eq!(tensor.group().len(), 600 * 1000 * 4);
    let whole = &spec.expected()[0].bytes;
    let expected = super::shares::share(whole, &[600, 4000], 4, slice);
    assert!(tensor.as_bytes().unwrap() == expected);
}
