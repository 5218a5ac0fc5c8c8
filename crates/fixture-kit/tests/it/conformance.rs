use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tensorlift_fixture_kit::{conformance, fill};
use tensorlift_storage::wrap::{Chopped, Counted, Failing};
use tensorlift_storage::{FileStorage, MapStorage, MemoryStorage, Storage};

fn sample(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(3, 0, &mut bytes);
    bytes
}

#[test]
fn files_mappings_and_memory_conform() {
    for len in [0, 1, 7, 4095, 4096, 4097, 300_000] {
        let bytes = sample(len);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, &bytes).unwrap();
        conformance::storage(&FileStorage::open(&path).unwrap(), &bytes);
        conformance::storage(&MapStorage::open(&path).unwrap(), &bytes);
        conformance::storage(&MemoryStorage::new(bytes.clone()), &bytes);
        conformance::storage(
            &Chopped::new(MemoryStorage::new(bytes.clone()), 1000),
            &bytes,
        );
        conformance::storage(&Counted::new(MemoryStorage::new(bytes.clone())), &bytes);
    }
}

#[test]
#[should_panic(expected = "bytes at")]
fn a_failing_storage_does_not() {
    let bytes = sample(10_000);
    let storage = MemoryStorage::new(bytes.clone());
    let failing = Failing::new(storage, 5_000, || io::Error::other("broken"));
    conformance::storage(&failing, &bytes);
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

    fn reader(&self) -> &'static str {
        "wrong"
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
        let found = catch_unwind(AssertUnwindSafe(|| conformance::storage(&wrong, &bytes)));
        assert!(found.is_err(), "{fault:?}");
    }
}
