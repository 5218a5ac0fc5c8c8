//! What the writer writes is what the reader reads.

use std::fs::File;
use std::io::{self, Cursor, Seek, SeekFrom, Write};

use tensorlift_format_torchzip::write::{StateDict, WriteError, is_writable};
use tensorlift_format_torchzip::{Format, Policy, ReadOptions, TorchFile, read};
use tensorlift_storage::{FileStorage, MemoryStorage, StorageExt};
use tensorlift_tensor_meta::{Dtype, Error, ErrorKind, Layout};

/// The file, read by the policy that names every unknown global.
fn read_back(file: &[u8]) -> TorchFile {
    let mut options = ReadOptions::default();
    options.policy = Policy::Strict;
    options.verify_crc = true;
    read(&MemoryStorage::new(file.to_vec()), &options).unwrap()
}

fn bytes_of(dtype: Dtype, shape: &[usize]) -> u64 {
    let layout = Layout::contiguous(shape).unwrap();
    layout.contiguous_bytes(dtype).unwrap()
}

fn finish(state_dict: StateDict, storages: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = state_dict.begin(Cursor::new(Vec::new())).unwrap();
    for bytes in storages {
        archive.write_storage(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn every_dtype_and_rank_is_read_back() {
    let shapes: [&[usize]; 7] = [
        &[],
        &[2],
        &[3, 4],
        &[2, 3, 4],
        &[2, 1, 2, 2],
        &[0, 2],
        &[1, 1, 1, 1, 300],
    ];
    let (mut state_dict, mut storages, mut expected) = (StateDict::new(), Vec::new(), Vec::new());
    for &dtype in Dtype::ALL {
        for shape in shapes.iter().filter(|shape| is_writable(dtype, shape)) {
            let name = format!("{dtype}.{shape:?}");
            let bytes = vec![storages.len() as u8; bytes_of(dtype, shape) as usize];
            let storage = state_dict.storage(bytes.len() as u64);
            let grad = dtype == Dtype::F32;
            state_dict
                .tensor(name.as_str(), dtype, shape, storage, grad)
                .unwrap();
            expected.push((name, dtype, *shape, grad, storages.len()));
            storages.push(bytes);
        }
    }
    assert!(expected.len() > 100);
    let bytes = finish(state_dict, &storages);
    let file = read_back(&bytes);
    assert_eq!(file.format(), Format::Zip);
    let storage = MemoryStorage::new(bytes);
    assert_eq!(file.catalog().len(), expected.len());
    for (entry, (name, dtype, shape, grad, number)) in file.catalog().entries().iter().zip(expected)
    {
        assert_eq!(
            (entry.name(), entry.dtype(), entry.shape()),
            (name.as_str(), dtype, shape)
        );
        assert_eq!(entry.requires_grad(), grad);
        assert_eq!(entry.extent().offset % 64, 0, "{name}");
        let mut found = vec![0; entry.byte_len() as usize];
        storage
            .read_exact_at(entry.extent().offset, &mut found)
            .unwrap();
        assert_eq!(found, storages[number], "{name}");
    }
}

#[test]
fn names_share_a_storage() {
    let mut state_dict = StateDict::new();
    let storage = state_dict.storage(16);
    for name in ["b", "", "ключ", "a.b\nc"] {
        state_dict
            .tensor(name, Dtype::I32, &[4], storage, true)
            .unwrap();
    }
    let file = read_back(&finish(state_dict, &[vec![7; 16]]));
    let entries = file.catalog().entries();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[2].name(), "ключ");
    assert!(
        entries
            .iter()
            .all(|entry| entry.view() == entries[0].view())
    );
    // PyTorch has no gradients of integers.
    assert!(!entries[0].requires_grad());
}

#[test]
fn no_tensor_and_many_are_files() {
    let file = read_back(&finish(StateDict::new(), &[]));
    assert!(file.catalog().is_empty());

    let mut state_dict = StateDict::new();
    let many = 70_000;
    for number in 0..many {
        let storage = state_dict.storage(1);
        let name = format!("t{number}");
        state_dict
            .tensor(name, Dtype::U8, &[1], storage, false)
            .unwrap();
    }
    let file = finish(state_dict, &vec![vec![1]; many]);
    assert_eq!(read_back(&file).catalog().len(), many);
}

/// Leaves holes in a file where large pieces go, which are all zeros here.
struct Holed(File);

impl Write for Holed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < 1 << 20 {
            return self.0.write(bytes);
        }
        self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Holed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_storage_beyond_4_gib_is_read_back() {
    let big = (4 << 30) + 8;
    let mut state_dict = StateDict::new();
    for (name, elements) in [("big", big / 8), ("small", 1)] {
        let storage = state_dict.storage(elements as u64 * 8);
        state_dict
            .tensor(name, Dtype::I64, &[elements], storage, false)
            .unwrap();
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = Holed(path.reopen().unwrap());
    let mut archive = state_dict.begin(file).unwrap();
    // Untouched zeros take no memory.
    archive.write_storage(&vec![0; big]).unwrap();
    archive.write_storage(&5i64.to_le_bytes()).unwrap();
    archive.finish().unwrap();

    let storage = FileStorage::open(path.path()).unwrap();
    let file = read(&storage, &ReadOptions::default()).unwrap();
    assert_eq!(file.catalog().get("big").unwrap().byte_len(), big as u64);
    let mut small = [0; 8];
    let at = file.catalog().get("small").unwrap().extent().offset;
    assert!(at > 4 << 30);
    storage.read_exact_at(at, &mut small).unwrap();
    assert_eq!(i64::from_le_bytes(small), 5);
}

#[test]
fn what_was_announced_must_come() {
    let announced = || {
        let mut state_dict = StateDict::new();
        let storage = state_dict.storage(4);
        state_dict
            .tensor("a", Dtype::F32, &[], storage, false)
            .unwrap();
        state_dict.begin(Cursor::new(Vec::new())).unwrap()
    };
    let mut archive = announced();
    assert!(matches!(
        archive.write_storage(&[0; 3]),
        Err(WriteError::StorageSize {
            storage: 0,
            announced: 4,
            found: 3
        })
    ));
    archive.write_storage(&[0; 4]).unwrap();
    assert!(matches!(
        archive.write_storage(&[]),
        Err(WriteError::StorageCount {
            announced: 1,
            found: 2
        })
    ));
    let error = announced().finish().unwrap_err();
    assert!(matches!(error, WriteError::StorageCount { found: 0, .. }));
    assert_eq!(Error::from(error).kind(), ErrorKind::Misuse);
}

#[test]
fn what_pytorch_lacks_is_refused() {
    let mut state_dict = StateDict::new();
    let storage = state_dict.storage(3);
    let mut refused = |name: &str, dtype, shape: &[usize]| {
        let error = state_dict.tensor(name, dtype, shape, storage, false);
        let error = Error::from(error.unwrap_err());
        assert_eq!(error.tensor(), Some(name));
        error.kind()
    };
    assert_eq!(refused("w", Dtype::F6E2M3, &[4]), ErrorKind::Unsupported);
    assert_eq!(refused("w", Dtype::F4, &[2, 3]), ErrorKind::Unsupported);
    assert_eq!(
        refused("w", Dtype::U8, &[usize::MAX, 0]),
        ErrorKind::Unsupported
    );
    assert_eq!(refused("w", Dtype::U8, &[4]), ErrorKind::Misuse);
    state_dict
        .tensor("w", Dtype::U8, &[3], storage, false)
        .unwrap();
    let error = state_dict.tensor("w", Dtype::U8, &[3], storage, false);
    assert!(matches!(error, Err(WriteError::DuplicateName { .. })));
}
