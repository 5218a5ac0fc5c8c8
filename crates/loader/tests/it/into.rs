//! Loading into memory of the caller, and into groups of exactly one tensor.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tensorlift_device::double::StagedDevice;
use tensorlift_device::{
    Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostDevice,
};
use tensorlift_loader::{
    Control, LoadIntoError, LoadOptions, LoadedInto, ParameterMemory, Shard, load_into,
};
use tensorlift_storage::wrap::{Counted, Failing};
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{
    Catalog, Dtype, Entry, ErrorKind, Extent, Layout, Record, ShardId, Source, View,
};

use super::{Sample, naive, pattern, samples};

fn into<'d, N: Into<String>, M: Into<ParameterMemory<'d>>>(
    sample: &Sample,
    shards: &[Shard],
    parameters: impl IntoIterator<Item = (N, M)>,
    options: &LoadOptions,
) -> Result<LoadedInto, LoadIntoError> {
    let all = |_: &Entry| true;
    let control = Control::default();
    load_into(&sample.catalog, shards, all, parameters, options, &control)
}

/// Entries that have bytes in the checkpoint and whose elements can be told apart.
fn loadable(catalog: &Catalog) -> impl Iterator<Item = &Entry> {
    catalog.entries().iter().filter(|entry| {
        let absent = matches!(catalog.record(entry).source, Source::Absent { .. });
        !absent && (entry.layout().is_contiguous() || entry.dtype().byte_len().is_some())
    })
}

/// Tensors of `U8`, side by side, of these lengths.
fn side_by_side(lens: &[usize]) -> Sample {
    let (mut builder, mut offset) = (Catalog::builder(), 0);
    for (index, &len) in lens.iter().enumerate() {
        let extent = Extent::new(ShardId::FIRST, offset, len as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([len]).unwrap();
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, View::whole(record))
            .unwrap();
        offset += len as u64;
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![pattern(offset as usize, 5)],
    }
}

fn counted(sample: &Sample) -> (Vec<Shard>, Arc<Counted<MemoryStorage>>) {
    let storage = Arc::new(Counted::new(MemoryStorage::new(sample.shards[0].clone())));
    let shard = Shard::new("counted", Arc::clone(&storage) as Arc<dyn Storage>);
    (vec![shard], storage)
}

/// Memory for each entry, and its name.
fn memory_for(sample: &Sample) -> Vec<(String, Vec<u8>)> {
    loadable(&sample.catalog)
        .map(|entry| {
            (
                entry.name().to_owned(),
                vec![0xaa; entry.byte_len() as usize],
            )
        })
        .collect()
}

fn slices(memory: &mut [(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &mut [u8])> {
    memory
        .iter_mut()
        .map(|(name, bytes)| (name.as_str(), bytes.as_mut_slice()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Slices of one allocation, at any alignment, and what lies between them stays.
    #[test]
    fn slices_of_any_alignment_get_row_major_elements(
        sample in samples(),
        gap in 0usize..70,
        chunk_bytes in prop_oneof![Just(4096usize), 1usize..20_000],
        read_threads in 1usize..5,
    ) {
        let lens: usize = loadable(&sample.catalog).map(|e| e.byte_len() as usize + gap).sum();
        let mut memory = vec![0xaa; lens];
        let mut rest = &mut memory[..];
        let mut parameters = Vec::new();
        for entry in loadable(&sample.catalog) {
            let (taken, left) = rest.split_at_mut(entry.byte_len() as usize);
            parameters.push((entry.name(), taken));
            rest = &mut left[gap..];
        }
        let options = LoadOptions::default().chunk_bytes(chunk_bytes).read_threads(read_threads);
        let loaded = into(&sample, &sample.shards(), parameters, &options).unwrap();
        prop_assert!(loaded.missing.is_empty());
        let mut at = 0;
        for entry in loadable(&sample.catalog) {
            let (found, after) = memory[at..].split_at(entry.byte_len() as usize);
            prop_assert_eq!(found, naive::expected(&sample, entry), "{:?}", entry);
            prop_assert!(after[..gap].iter().all(|byte| *byte == 0xaa));
            at += found.len() + gap;
        }
    }

    /// Groups behind staging slots are destinations too.
    #[test]
    fn groups_of_a_device_are_filled_and_finished(
        sample in samples(),
        lanes in 1usize..4,
        slot_bytes in 16usize..9000,
    ) {
        let device = StagedDevice::new(lanes, slot_bytes);
        let mut groups: Vec<(&str, Box<dyn Group>)> = loadable(&sample.catalog)
            .map(|entry| {
                let request = GroupRequest::new(entry.byte_len() as usize).entry(entry);
                (entry.name(), device.allocate(&request).unwrap())
            })
            .collect();
        let parameters = groups.iter_mut().map(|(name, group)| (*name, group.as_mut()));
        let options = LoadOptions::default().read_threads(2);
        let loaded = into(&sample, &sample.shards(), parameters, &options).unwrap();
        prop_assert!(loaded.missing.is_empty());
        for (name, group) in &groups {
            let entry = sample.catalog.get(name).unwrap();
            prop_assert_eq!(group.as_host().unwrap(), naive::expected(&sample, entry));
        }
    }

    #[test]
    fn exact_groups_hold_one_tensor_each(sample in samples()) {
        let mut sample = sample;
        sample.catalog = sample.catalog.renamed(|entry| {
            let loadable = loadable(&sample.catalog).any(|other| other.name() == entry.name());
            loadable.then(|| entry.name().to_owned())
        }).unwrap();
        let device = Recorded::default();
        let requests = Arc::clone(&device.requests);
        let loaded = sample.load(&sample.shards(), device, &LoadOptions::default()).unwrap();
        let mut names: Vec<String> = requests.lock().unwrap().clone();
        names.sort_unstable();
        let mut expected: Vec<&str> = sample.catalog.entries().iter().map(Entry::name).collect();
        expected.sort_unstable();
        prop_assert_eq!(names, expected);
        for tensor in &loaded {
            let bytes = naive::expected(&sample, tensor.entry());
            prop_assert_eq!((tensor.offset(), tensor.group().len()), (0, bytes.len()));
            prop_assert!(tensor.is_contiguous());
            prop_assert_eq!(tensor.as_bytes().unwrap(), bytes);
        }
    }
}

/// Host memory in exact groups; records the names that were asked for.
#[derive(Debug, Default)]
struct Recorded {
    requests: Arc<Mutex<Vec<String>>>,
}

impl Device for Recorded {
    fn name(&self) -> String {
        "recorded".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules::default().exact(true).one_dtype(true)
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let entry = request.entry.expect("exact groups have an entry");
        assert_eq!(request.dtype, Some(entry.dtype()));
        assert_eq!(request.bytes as u64, entry.byte_len());
        self.requests.lock().unwrap().push(entry.name().to_owned());
        HostDevice::new().allocate(request)
    }
}

#[test]
fn small_neighbours_are_one_read() {
    let sample = side_by_side(&[100; 1000]);
    let (shards, storage) = counted(&sample);
    let mut memory = memory_for(&sample);
    let loaded = into(
        &sample,
        &shards,
        slices(&mut memory),
        &LoadOptions::default(),
    )
    .unwrap();
    assert_eq!((storage.reads(), storage.bytes()), (1, 100_000));
    let file = &loaded.report.files[0];
    assert_eq!((file.bytes_in_place, file.bytes_bounced), (0, 100_000));
    for (index, (_, bytes)) in memory.iter().enumerate() {
        assert_eq!(bytes, &sample.shards[0][index * 100..][..100]);
    }
    // So are exact groups.
    let (shards, storage) = counted(&sample);
    sample
        .load(&shards, Recorded::default(), &LoadOptions::default())
        .unwrap();
    assert_eq!(storage.reads(), 1);
}

#[test]
fn large_parameters_are_read_in_place() {
    let sample = side_by_side(&[1_000_000, 10, 900_000]);
    let (shards, storage) = counted(&sample);
    let mut memory = memory_for(&sample);
    let loaded = into(
        &sample,
        &shards,
        slices(&mut memory),
        &LoadOptions::default(),
    )
    .unwrap();
    assert_eq!((storage.reads(), storage.bytes()), (3, 1_900_010));
    let file = &loaded.report.files[0];
    assert_eq!((file.bytes_in_place, file.bytes_bounced), (1_900_010, 0));
}

#[test]
fn bytes_with_two_names_are_read_once() {
    for len in [100usize, 9_000_000] {
        let mut sample = side_by_side(&[len]);
        let mut builder = Catalog::builder();
        let extent = Extent::new(ShardId::FIRST, 0, len as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        for name in ["embedding", "head"] {
            let layout = Layout::contiguous([len]).unwrap();
            builder
                .entry(name, Dtype::U8, layout, View::whole(record))
                .unwrap();
        }
        sample.catalog = builder.finish();
        let (shards, storage) = counted(&sample);
        let mut memory = memory_for(&sample);
        let loaded = into(
            &sample,
            &shards,
            slices(&mut memory),
            &LoadOptions::default(),
        );
        assert_eq!(loaded.unwrap().report.bytes_read, len as u64);
        assert_eq!(storage.bytes(), len as u64);
        assert!(memory.iter().all(|(_, bytes)| bytes == &sample.shards[0]));
    }
}

#[test]
fn a_second_checkpoint_goes_into_the_same_memory() {
    let mut sample = side_by_side(&[5000, 70_000]);
    let mut memory = memory_for(&sample);
    let addresses = |memory: &[(String, Vec<u8>)]| -> Vec<usize> {
        memory
            .iter()
            .map(|(_, bytes)| bytes.as_ptr().addr())
            .collect()
    };
    let before = addresses(&memory);
    for seed in [8, 9] {
        sample.shards[0] = pattern(75_000, seed);
        let loaded = into(
            &sample,
            &sample.shards(),
            slices(&mut memory),
            &LoadOptions::default(),
        );
        assert!(loaded.unwrap().missing.is_empty());
        assert_eq!(memory[0].1, sample.shards[0][..5000]);
        assert_eq!(memory[1].1, sample.shards[0][5000..]);
    }
    assert_eq!(addresses(&memory), before);
}

#[test]
fn names_that_do_not_match_are_in_the_result_or_an_error() {
    let sample = side_by_side(&[10, 20, 30]);
    let (shards, storage) = counted(&sample);
    let (mut first, mut other) = (vec![0; 10], vec![7; 5]);
    let strict = LoadOptions::default().strict(true);
    let parameters = [("t0", &mut first[..]), ("other", &mut other[..])];
    let error = into(&sample, &shards, parameters, &strict).unwrap_err();
    assert_eq!(
        (error.error.kind(), error.overwritten.len()),
        (ErrorKind::NotFound, 0)
    );
    let text = error.to_string();
    assert!(text.contains("other") && text.contains("t1, t2"), "{text}");
    assert_eq!(storage.reads(), 0);

    let parameters = [("t0", &mut first[..]), ("other", &mut other[..])];
    let loaded = into(&sample, &shards, parameters, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.missing, ["other"]);
    assert_eq!(loaded.unexpected, ["t1", "t2"]);
    assert_eq!(
        (first, other),
        (sample.shards[0][..10].to_vec(), vec![7; 5])
    );
}

#[test]
fn everything_wrong_is_said_before_the_first_byte() {
    let sample = side_by_side(&[10, 20, 30]);
    let (shards, storage) = counted(&sample);
    let mut memory = [vec![1u8; 9], vec![1; 21], vec![1; 30]];
    let parameters = ["t0", "t1", "t2"].into_iter().zip(&mut memory);
    let error = into(&sample, &shards, parameters, &LoadOptions::default()).unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Misuse);
    let text = error.to_string();
    assert!(
        text.contains("\"t0\" U8 [10] has 10 bytes, its parameter 9"),
        "{text}"
    );
    assert!(
        text.contains("\"t1\"") && !text.contains("\"t2\""),
        "{text}"
    );
    assert!(memory.iter().flatten().all(|byte| *byte == 1));

    let mut floats = [0.0f32; 5];
    let error = into(
        &sample,
        &shards,
        [("t1", &mut floats[..])],
        &LoadOptions::default(),
    );
    let text = error.unwrap_err().to_string();
    assert!(text.contains("\"t1\" is U8, its parameter F32"), "{text}");

    let (mut one, mut two) = (vec![0u8; 10], vec![0u8; 10]);
    let twice = [("t0", &mut one), ("t0", &mut two)];
    let error = into(&sample, &shards, twice, &LoadOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("\"t0\" is given twice"),
        "{error}"
    );
    assert_eq!(storage.reads(), 0);
}

#[test]
fn a_failure_says_what_may_have_been_overwritten() {
    let len = 300_000;
    let sample = side_by_side(&[len; 6]);
    let shards = sample.shards_through(|storage| {
        Arc::new(Failing::new(storage, 3 * len as u64 + 5, || {
            io::Error::from_raw_os_error(libc::EIO)
        }))
    });
    let mut memory = memory_for(&sample);
    let options = LoadOptions::default().read_threads(1);
    let error = into(&sample, &shards, slices(&mut memory), &options).unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Storage);
    assert_eq!(error.error.tensor(), Some("t3"));
    assert_eq!(error.overwritten, ["t0", "t1", "t2", "t3"]);
    for (name, bytes) in &memory[4..] {
        assert!(bytes.iter().all(|byte| *byte == 0xaa), "{name}");
    }
}

#[test]
fn destinations_that_do_not_fit_the_plan_are_misuse() {
    let sample = side_by_side(&[10]);
    let rules = [GroupRules::default().exact(true)];
    let options = LoadOptions::default();
    let plan = tensorlift_loader::plan(&sample.catalog, |_| Some(0), &rules, &options);
    let plan = plan.unwrap();
    for lens in [vec![], vec![9], vec![11], vec![10, 10]] {
        let mut memory: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
        let destinations = memory
            .iter_mut()
            .map(|bytes| Destination::Host(bytes))
            .collect();
        let filled = tensorlift_loader::fill(
            &plan,
            &sample.catalog,
            &sample.shards(),
            destinations,
            &options,
            &Control::default(),
        );
        let error = filled.unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::Misuse, "{lens:?}");
        assert_eq!(error.touched, [0usize; 0]);
    }
}
