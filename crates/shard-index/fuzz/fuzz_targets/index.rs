//! Arbitrary bytes as an index file. What is accepted says what `serde_json` finds in it, its
//! shards stay inside the folder, and shards made after it merge and load.

#![no_main]

use std::alloc::System;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tensorlift_device::{Device, HostDevice};
use tensorlift_loader::{Control, LoadOptions, LoadReport, Loaded, Shard, execute, plan};
use tensorlift_shard_index::{Error, Index, IndexError, merge};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Limits, Record, ShardId, View};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What a reader may take beyond the size of the file.
const SPARE_BYTES: usize = 64 << 20;

/// What a load may take here: more than any input.
const MEMORY_BYTES: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let index = bounded(bytes, &limits);
    let mut tight = limits;
    tight.tensors = 2;
    tight.name_bytes = 4;
    match (&index, &bounded(bytes, &tight)) {
        (Ok(index), Ok(tight)) => assert_eq!(format!("{index:?}"), format!("{tight:?}")),
        (Ok(_), Err(error)) => {
            assert!(
                matches!(error, IndexError::LimitExceeded { .. }),
                "{error:?}"
            );
        }
        (Err(index), Ok(tight)) => panic!("{index:?}; under small limits: {tight:?}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(index) = index {
        promises_hold(&index);
        says_the_same(&index, bytes);
        merges_and_loads(&index);
        moved_is_named(&index);
    }
});

/// Parses; ends the process if that allocates more than the file's size and 64 MiB.
fn bounded(bytes: &[u8], limits: &Limits) -> Result<Index, IndexError> {
    let limit = ALLOCATOR.allocated() + bytes.len() + SPARE_BYTES;
    ALLOCATOR
        .set_limit(limit)
        .expect("a limit above what is allocated");
    let index = Index::parse(bytes, limits);
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("a limit above what is allocated");
    index
}

fn promises_hold(index: &Index) {
    assert!(!index.is_empty());
    let mut names = HashSet::new();
    let mut next = 0;
    for (name, shard) in index.iter() {
        assert!(names.insert(name), "{name:?} twice");
        assert_eq!(index.shard_of(name), Some(shard));
        assert!(shard.0 <= next, "shards are numbered as they come");
        next = next.max(shard.0 + 1);
    }
    assert_eq!(index.len(), names.len());
    assert_eq!(index.shards().len(), next as usize);
    let shards: HashSet<_> = index.shards().iter().collect();
    assert_eq!(shards.len(), index.shards().len());
    for shard in index.shards() {
        let mut components = Path::new(&**shard).components();
        assert!(
            components.all(|part| matches!(part, Component::Normal(_))),
            "{shard:?}"
        );
        assert!(!shard.contains(['\\', ':', '\0']), "{shard:?}");
    }
}

fn says_the_same(index: &Index, bytes: &[u8]) {
    // Keys that are passed over may nest deeper than `serde_json` follows, or be numbers that no
    // float holds.
    let Ok(theirs) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let map = theirs["weight_map"].as_object().expect("a map");
    assert_eq!(map.len(), index.len());
    for (name, shard) in index.iter() {
        assert_eq!(map[name].as_str(), Some(&*index.shards()[shard.index()]));
    }
    let total_size = &theirs["metadata"]["total_size"];
    if let Some(size) = total_size.as_u64() {
        assert_eq!(index.total_size(), Some(size));
    }
    for (key, text) in index.metadata() {
        match &theirs["metadata"][key] {
            Value::String(theirs) => assert_eq!(text, theirs),
            Value::Number(number) => assert!(number.is_f64() || *text == number.to_string()),
            Value::Bool(value) => assert_eq!(*text, value.to_string()),
            other => panic!("{key:?} is {text:?} here and {other:?} there"),
        }
    }
}

/// One catalog for each shard of the index: a byte for each tensor, where `place` puts it.
fn catalogs(index: &Index, place: impl Fn(usize, ShardId) -> ShardId) -> Vec<Catalog> {
    let mut builders: Vec<_> = index.shards().iter().map(|_| Catalog::builder()).collect();
    for (number, (name, shard)) in index.iter().enumerate() {
        let builder = &mut builders[place(number, shard).index()];
        let extent = Extent::new(ShardId::FIRST, builder.len() as u64, 1);
        let record = builder.record(Record::stored(extent)).expect("few records");
        let layout = Layout::contiguous(vec![1]).expect("one dimension");
        builder
            .entry(name, Dtype::U8, layout, View::whole(record))
            .expect("a name of its own");
    }
    builders
        .into_iter()
        .map(|builder| builder.finish())
        .collect()
}

fn paths(index: &Index) -> Vec<PathBuf> {
    index
        .shards()
        .iter()
        .map(|shard| Path::new("folder").join(&**shard))
        .collect()
}

fn merges_and_loads(index: &Index) {
    let catalogs = catalogs(index, |_, shard| shard);
    let lens: Vec<usize> = catalogs.iter().map(Catalog::len).collect();
    let merged = merge(&paths(index), Some(index), catalogs).expect("shards as the index says");
    assert_eq!(merged.catalog.len(), index.len());
    assert!(merged.unlisted.is_empty());

    let catalog = Arc::new(merged.catalog);
    let host: Arc<dyn Device> = Arc::new(HostDevice::new());
    let options = LoadOptions::default()
        .memory_bytes(MEMORY_BYTES)
        .read_threads(1);
    let plan = plan(&catalog, |_| Some(0), &[host.rules()], &options).expect("a plan");
    let shard = |(number, len): (usize, &usize)| {
        let bytes = (0..*len).map(|at| byte(number, at)).collect::<Vec<_>>();
        Shard::new(
            &*index.shards()[number],
            Arc::new(MemoryStorage::new(bytes)),
        )
    };
    let shards: Vec<Shard> = lens.iter().enumerate().map(shard).collect();
    let filled = execute(
        &plan,
        &catalog,
        &shards,
        &[host],
        &options,
        &Control::default(),
    );
    let filled = match filled {
        Ok(filled) => filled,
        Err(error) => {
            assert!(index.len() > 4096, "{error:?}");
            return;
        }
    };
    let loaded = Loaded::new(catalog, plan, filled, LoadReport::default());
    for tensor in loaded.tensors() {
        let extent = tensor.entry().extent();
        assert_eq!(index.shard_of(tensor.entry().name()), Some(extent.shard));
        let expected = byte(extent.shard.index(), extent.offset as usize);
        assert_eq!(tensor.as_bytes().expect("host memory"), [expected]);
    }
}

fn byte(shard: usize, at: usize) -> u8 {
    (shard * 31 + at) as u8
}

/// The last tensor in another shard than the index says.
fn moved_is_named(index: &Index) {
    let count = index.shards().len() as u32;
    if count < 2 {
        return;
    }
    let last = index.len() - 1;
    let moved = |shard: ShardId| ShardId((shard.0 + 1) % count);
    let place = |number, shard| if number == last { moved(shard) } else { shard };
    match merge(&paths(index), Some(index), catalogs(index, place)) {
        Err(Error::Conflicts(conflicts)) => {
            let (name, shard) = index.iter().last().expect("tensors");
            let [misplaced] = &*conflicts.misplaced else {
                panic!("{conflicts:?}")
            };
            assert_eq!(misplaced.name, name);
            assert_eq!((misplaced.listed, misplaced.found), (shard, moved(shard)));
            assert!(conflicts.missing.is_empty() && conflicts.repeated.is_empty());
        }
        other => panic!("{other:?}"),
    }
}
