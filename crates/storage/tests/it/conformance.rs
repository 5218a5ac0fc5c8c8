use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tensorlift_storage::wrap::{Chopped, Counted, Failing};
use tensorlift_storage::{
    DirectStorage, FileStorage, MapStorage, MemoryStorage, Storage, StorageExt, conformance,
};

fn sample(len: usize) -> Vec<u8> {
    let bytes = (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8);
    bytes.collect()
}

#[test]
fn files_mappings_and_memory_conform() {
    for len in [0, 1, 7, 4095, 4096, 4097, 300_000] {
        let bytes = sample(len);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, &bytes).unwrap();
        conformance::check(&FileStorage::open(&path).unwrap(), &bytes);
        conformance::check(&MapStorage::open(&path).unwrap(), &bytes);
        conformance::check(&MemoryStorage::new(bytes.clone()), &bytes);
        conformance::check(&bytes.as_slice(), &bytes);
        conformance::check(&Arc::new(MemoryStorage::new(bytes.clone())), &bytes);
        let file = Arc::new(File::open(&path).unwrap());
        match DirectStorage::new(file) {
            Ok(direct) => conformance::check(&direct.bypassing_cache(), &bytes),
            Err(error) => eprintln!("not run: no direct reads here: {error}"),
        }
        conformance::check(
            &Chopped::new(MemoryStorage::new(bytes.clone()), 1000),
            &bytes,
        );
        conformance::check(&Counted::new(MemoryStorage::new(bytes.clone())), &bytes);
    }
}

#[test]
#[should_panic(expected = "bytes at")]
fn a_failing_storage_does_not() {
    let bytes = sample(10_000);
    let storage = MemoryStorage::new(bytes.clone());
    let failing = Failing::new(storage, 5_000, || io::Error::other("broken"));
    conformance::check(&failing, &bytes);
}

/// Reads wrongly in one way.
#[derive(Debug)]
struct Wrong(MemoryStorage, Fault);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Byte,
    WrapsAround,
    WritesPastTheEnd,
    Length,
}

impl Storage for Wrong {
    fn len(&self) -> u64 {
        self.0.len() + u64::from(self.1 == Fault::Length)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self.1 {
            Fault::WrapsAround if self.0.len() > 0 => {
                return self.0.read_at(offset % self.0.len(), buf);
            }
            Fault::WritesPastTheEnd => buf.fill(0),
            _ => {}
        }
        let read = self.0.read_at(offset, buf)?;
        if self.1 == Fault::Byte && (offset..offset + read as u64).contains(&77) {
            buf[(77 - offset) as usize] ^= 1;
        }
        Ok(read)
    }
}

#[test]
fn every_fault_is_found() {
    for fault in [
        Fault::Byte,
        Fault::WrapsAround,
        Fault::WritesPastTheEnd,
        Fault::Length,
    ] {
        let bytes = sample(500);
        let wrong = Wrong(MemoryStorage::new(bytes.clone()), fault);
        let found = catch_unwind(AssertUnwindSafe(|| conformance::check(&wrong, &bytes)));
        assert!(found.is_err(), "{fault:?}");
    }
}

#[test]
fn wrappers_forward_what_the_storage_is_and_hide_the_ways_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes");
    std::fs::write(&path, sample(100)).unwrap();
    let counted = Counted::new(MapStorage::open(&path).unwrap());
    assert!(counted.as_slice().is_none() && counted.as_local().is_none());
    assert!(counted.is_unchanged().unwrap());
    std::fs::write(&path, sample(101)).unwrap();
    assert!(!counted.is_unchanged().unwrap());
    // A released mapping has no file left to ask.
    counted.release();
    assert!(counted.is_unchanged().unwrap());
    counted.read_exact_at(0, &mut []).unwrap();
    assert_eq!(counted.reads(), 0);
}
