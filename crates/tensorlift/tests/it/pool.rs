//! Loads again and again, into the same memory.

use tensorlift::{Checkpoint, HostDevice, HostPool, Loaded, Tensor};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

/// Two shards with holes between tensors, for alignment and for what is not selected.
fn spec(seed: u64) -> CheckpointSpec {
    let spec = CheckpointSpec::new(Format::torch_zip())
        .shards(2)
        .seed(seed);
    (0..6).fold(spec, |spec, index| {
        spec.tensor(format!("t{index}"), Dtype::F32, [300_000 + index])
    })
}

fn load(spec: &CheckpointSpec, pool: &HostPool) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    spec.write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let host = HostDevice::new().with_pool(pool.clone());
    let loader = checkpoint.loader().place_on(host);
    loader.select(|entry| entry.name() != "t1").load().unwrap()
}

/// Where the tensors are.
fn places(loaded: &Loaded) -> Vec<(String, usize)> {
    let address = |tensor: &Tensor| tensor.as_bytes().unwrap().as_ptr().addr();
    let tensors = loaded.tensors().iter();
    tensors
        .map(|tensor| (tensor.name().to_owned(), address(tensor)))
        .collect()
}

#[test]
fn a_second_load_takes_the_memory_of_the_first() {
    let pool = HostPool::new(usize::MAX);
    let (one, other) = (spec(1), spec(2));
    let first = load(&one, &pool);
    let taken = places(&first);
    assert_eq!(pool.kept_bytes(), 0);
    drop(first);
    assert!(pool.kept_bytes() >= 5 * 300_000 * 4);

    let second = load(&other, &pool);
    // All that was kept is in use, so nothing was mapped.
    assert_eq!(pool.kept_bytes(), 0);
    assert_eq!(taken.len(), 5);
    assert_eq!(places(&second), taken);
    for expected in other.expected() {
        if expected.name != "t1" {
            let tensor = second.tensor(&expected.name).unwrap();
            assert_eq!(
                tensor.as_bytes().unwrap(),
                expected.bytes,
                "{}",
                expected.name
            );
        }
    }
}
