//! Files that fuzzing found, each with what went wrong; the files are in `fixtures/regressions`.

use std::path::Path;

use tensorlift_format_torchzip::{ReadOptions, TorchFile, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::Entry;

fn open(name: &str) -> TorchFile {
    read(&storage(name), &ReadOptions::default()).unwrap()
}

fn storage(name: &str) -> MemoryStorage {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/regressions");
    let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    MemoryStorage::new(bytes)
}

#[test]
fn pickle_repeated_keys() {
    // 2^20 paths lead to a dict of 2,000 equal keys, which was looked at on each of them. It holds
    // no tensor, and is entered once.
    let file = open("pickle-repeated-keys.bin");
    assert!(file.catalog().is_empty());
    assert!(!file.aliases_omitted());
}

#[test]
fn zip_objects_in_sparse_parts() {
    // A root's path ended in the middle, for the parts of a sparse tensor shared one buffer.
    roots_hold_what_they_say(&open("zip-objects-in-sparse-parts.bin"));
}

#[test]
fn zip_tensors_in_a_key() {
    // What the key holds counted as below the value too.
    roots_hold_what_they_say(&open("zip-tensors-in-a-key.bin"));
}

#[test]
fn pickle_second_object_under_a_limit() {
    // A second object follows. Where a limit ended the look at it, it counted as none.
    let storage = storage("pickle-second-object-under-a-limit.bin");
    let refused = |options: &ReadOptions| read(&storage, options).unwrap_err().to_string();
    let plain = refused(&ReadOptions::default());
    assert!(plain.contains("more than one object"), "{plain}");
    for opcodes in 1..20 {
        let mut options = ReadOptions::default();
        options.limits.pickle_opcodes = opcodes;
        refused(&options);
    }
}

fn roots_hold_what_they_say(file: &TorchFile) {
    let names: Vec<_> = file.catalog().entries().iter().map(Entry::name).collect();
    for root in file.roots() {
        let below = names.iter().filter(|name| root.strip(name).is_some());
        assert!(below.count() >= root.tensors(), "{root:?} of {names:?}");
    }
}
