//! Arbitrary headers. What is accepted, the `safetensors` crate accepts and describes alike.
//!
//! An input is two bytes that say how many bytes follow the header, then the header.
//! The same input is also read as a file of its own.

#![no_main]

use std::alloc::System;
use std::collections::HashSet;
use std::sync::Arc;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use tensorlift_device::{Device, HostDevice};
use tensorlift_format_safetensors::{Error, read, to_format};
use tensorlift_loader::{Control, LoadOptions, LoadReport, Loaded, Shard, execute, plan};
use tensorlift_storage::wrap::Chopped;
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{Catalog, Limits};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What a reader may take beyond the size of the file.
const SPARE_BYTES: usize = 64 << 20;

/// What a load may take here: more than any input.
const MEMORY_BYTES: u64 = 4 << 20;

fuzz_target!(|input: &[u8]| {
    check(input);
    if let Some((len, header)) = input.split_first_chunk() {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        let tail = (0..u16::from_le_bytes(*len)).map(|at| at.wrapping_mul(31) as u8);
        file.extend(tail);
        check(&file);
    }
});

fn check(file: &[u8]) {
    let storage = MemoryStorage::new(file.to_vec());
    let limits = Limits::default();
    let whole = bounded(&storage, &limits);
    match (&whole, &bounded(&Chopped::new(storage.clone(), 7), &limits)) {
        (Ok(whole), Ok(chopped)) => assert_eq!(whole, chopped),
        (Err(whole), Err(chopped)) => assert_eq!(whole.to_string(), chopped.to_string()),
        (whole, chopped) => panic!("whole: {whole:?}; in small reads: {chopped:?}"),
    }
    let mut tight = limits;
    tight.tensors = 2;
    tight.rank = 2;
    tight.name_bytes = 4;
    tight.metadata_entries = 1;
    match (&whole, &bounded(&storage, &tight)) {
        (Ok(whole), Ok(tight)) => assert_eq!(whole, tight),
        (Ok(_), Err(error)) => assert!(matches!(error, Error::Limit { .. }), "{error:?}"),
        (Err(whole), Ok(tight)) => panic!("{whole:?}; under small limits: {tight:?}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(catalog) = whole {
        promises_hold(&catalog, file.len() as u64);
        says_the_same(&catalog, file);
        loads(catalog, file);
    }
}

/// Reads; ends the process if that allocates more than the file's size and 64 MiB.
fn bounded(storage: &dyn Storage, limits: &Limits) -> Result<Catalog, Error> {
    let limit = ALLOCATOR.allocated() + storage.len() as usize + SPARE_BYTES;
    ALLOCATOR
        .set_limit(limit)
        .expect("a limit above what is allocated");
    let catalog = read(storage, limits);
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("a limit above what is allocated");
    catalog
}

fn promises_hold(catalog: &Catalog, file_len: u64) {
    let mut names = HashSet::new();
    for (position, entry) in catalog.entries().iter().enumerate() {
        assert!(
            names.insert(entry.name()),
            "the name {:?} twice",
            entry.name()
        );
        assert_eq!(catalog.position(entry.name()), Some(position));
        let extent = entry.extent();
        let end = extent.offset.checked_add(extent.len);
        assert!(
            end.is_some_and(|end| end <= file_len),
            "{entry:?} of {file_len} bytes"
        );
        let span_end = entry.view().offset.checked_add(entry.span_bytes());
        let record_len = catalog.record(entry).len();
        assert!(
            span_end
                .zip(record_len)
                .is_some_and(|(end, len)| end <= len),
            "{entry:?}"
        );
        assert_eq!(
            entry.layout().contiguous_bytes(entry.dtype()),
            Some(entry.byte_len())
        );
        assert_eq!(extent.len, entry.byte_len());
    }
}

fn says_the_same(catalog: &Catalog, file: &[u8]) {
    let (header_len, theirs) = SafeTensors::read_metadata(file).expect("accepted here, and there");
    let first_byte = 8 + header_len as u64;
    let infos = theirs.tensors();
    assert_eq!(catalog.len(), infos.len());
    for entry in catalog.entries() {
        let info = infos[entry.name()];
        assert_eq!(to_format(entry.dtype()), Some(info.dtype));
        assert_eq!(entry.shape(), info.shape);
        let (begin, end) = info.data_offsets;
        let extent = entry.extent();
        let (begin, end) = (first_byte + begin as u64, first_byte + end as u64);
        assert_eq!((extent.offset, extent.end()), (begin, end), "{entry:?}");
    }
    let theirs = theirs.metadata().clone().unwrap_or_default();
    assert_eq!(catalog.metadata().clone(), theirs.into_iter().collect());
}

fn loads(catalog: Catalog, file: &[u8]) {
    let catalog = Arc::new(catalog);
    let host: Arc<dyn Device> = Arc::new(HostDevice::new());
    let options = LoadOptions::default()
        .memory_bytes(MEMORY_BYTES)
        .read_threads(1);
    let plan = plan(&catalog, |_| Some(0), &[host.rules()], &options).expect("a plan");
    let shard = Shard::new("input", Arc::new(MemoryStorage::new(file.to_vec())));
    let filled = execute(
        &plan,
        &catalog,
        &[shard],
        &[host],
        &options,
        &Control::default(),
    );
    let filled = match filled {
        Ok(filled) => filled,
        Err(error) => {
            assert!(file.len() as u64 > MEMORY_BYTES / 4, "{error:?}");
            return;
        }
    };
    let loaded = Loaded::new(catalog, plan, filled, LoadReport::default());
    for tensor in loaded.tensors() {
        let extent = tensor.entry().extent();
        let expected = &file[extent.offset as usize..extent.end() as usize];
        assert_eq!(
            tensor.as_bytes().expect("host memory"),
            expected,
            "{:?}",
            tensor.entry()
        );
    }
}
