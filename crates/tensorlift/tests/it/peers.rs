//! Faults that were reported of other loaders, each as a test of its own.
//!
//! A staging buffer that is filled again before its copy has ended is the subject of
//! `device-cuda/tests/it/waits.rs`: a copy takes 3 ms there.

use std::fs;

use tensorlift::{Checkpoint, HostDevice, HostPool, LoadOptions, Loaded, PageCache, ReaderKind};
use tensorlift_fixture_kit::{CheckpointSpec, ExpectedTensor, Format};
use tensorlift_storage::os;
use tensorlift_tensor_meta::Dtype;

fn assert_holds(loaded: &Loaded, expected: &[ExpectedTensor]) {
    assert_eq!(loaded.tensors().len(), expected.len());
    for ExpectedTensor { name, bytes, .. } in expected {
        let tensor = loaded.tensor(name).unwrap();
        assert!(tensor.as_bytes().unwrap() == bytes, "{name}");
    }
}

/// Tensors that are views of a buffer which the next load writes over.
#[test]
fn tensors_in_use_outlive_later_loads_into_the_same_pool() {
    let folder = tempfile::tempdir().unwrap();
    let specs = [1, 2, 3].map(|seed| {
        let spec = CheckpointSpec::new(Format::safetensors()).seed(seed);
        spec.tensor("a", Dtype::F32, [200_000])
            .tensor("b", Dtype::F32, [300])
    });
    let pool = HostPool::new(usize::MAX);
    let load = |spec: &CheckpointSpec| {
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let host = HostDevice::new().with_pool(pool.clone());
        checkpoint.loader().place_on(host).load().unwrap()
    };
    let kept = load(&specs[0]);
    // The second one's memory goes back to the pool, and the third takes it.
    drop(load(&specs[1]));
    let third = load(&specs[2]);
    assert_holds(&kept, &specs[0].expected());
    assert_holds(&third, &specs[2].expected());
}

/// Shards of another format beside the index, loaded too: twice the bytes, or the wrong copy.
#[test]
fn copies_beside_an_index_are_named_and_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let spec = |format, seed| {
        let spec = CheckpointSpec::new(format).shards(2).seed(seed);
        (0..4).fold(spec, |spec, index| {
            spec.tensor(format!("t{index}"), Dtype::F32, [1000])
        })
    };
    let wanted = spec(Format::safetensors(), 1);
    wanted.write(folder.path()).unwrap();
    spec(Format::torch_zip(), 2).write(folder.path()).unwrap();
    fs::copy(
        folder.path().join("model-00001-of-00002.safetensors"),
        folder.path().join("consolidated.safetensors"),
    )
    .unwrap();

    let loaded = Checkpoint::open(folder.path()).unwrap();
    let loaded = loaded.loader().load().unwrap();
    assert_holds(&loaded, &wanted.expected());
    assert_eq!(loaded.report().files.len(), 2);
    let choice = serde_json::to_string(&loaded.report().choice).unwrap();
    for left_out in ["pytorch_model", "consolidated.safetensors"] {
        assert!(choice.contains(left_out), "{left_out} is not in {choice}");
    }
}

/// Read-ahead into the page cache, which evicts what was read ahead before it is used: a cold file
/// goes past the page cache, and leaves it as it was.
#[test]
fn a_cold_load_fills_no_page_cache() {
    const BYTES: u64 = 8 << 20;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let spec = CheckpointSpec::new(Format::safetensors()).tensor("a", Dtype::U8, [BYTES as usize]);
    spec.write(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let file = fs::File::open(&path).unwrap();
    let cached = || os::residency(&file, BYTES).map(|residency| residency.share());
    os::drop_page_cache(&file).unwrap();
    if cached() != Some(0.0) {
        eprintln!("not run: this file system keeps its files in memory, or does not tell");
        return;
    }
    let loaded = Checkpoint::open(&path).unwrap();
    let options = LoadOptions::default().page_cache(PageCache::Keep);
    let loaded = loaded.loader().options(options).load().unwrap();
    assert_holds(&loaded, &spec.expected());
    if loaded.report().files[0].reader == Some(ReaderKind::Direct) {
        // The header is read before a reader is chosen.
        assert!(cached() < Some(0.1), "{:?} are cached", cached());
    } else {
        eprintln!("not run: this file system has no direct reads");
    }
}

/// Budgets of the memory that is free, on machines where the page cache has nearly all of it.
#[test]
#[cfg(target_os = "linux")]
fn memory_of_the_page_cache_counts_as_available() {
    let field = |name: &str| {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    };
    let budget = os::available_memory().unwrap();
    let (available, free) = (field("MemAvailable:"), field("MemFree:"));
    assert!(budget <= available + (256 << 20));
    if available < free + (1 << 30) {
        eprintln!("not run: the page cache is nearly empty");
    } else if budget + (1 << 30) < available {
        eprintln!("not run: a control group allows less than the machine has");
    } else {
        assert!(budget > free, "{budget} of {available}, {free} free");
    }
}
