//! Loads from real files, on the file systems that can be had here.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tensorlift_device::HostDevice;
use tensorlift_loader::{Control, FileReport, LoadOptions, PageCache, Reader, Shard, load_into};
use tensorlift_storage::{FileStorage, ReaderKind, os};
use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};

use super::{Sample, pattern};

/// Bytes of a checkpoint that is large enough for direct reads.
const LEN: usize = (6 << 20) + 5000;

/// A folder on some file system, which is gone with this.
struct Place {
    folder: tempfile::TempDir,
    mounted: Option<PathBuf>,
}

impl Place {
    /// The disk, it is to be hoped.
    fn disk() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            mounted: None,
        }
    }

    /// A file system in memory.
    fn memory() -> Option<Self> {
        let folder = tempfile::tempdir_in("/dev/shm");
        let folder = folder.inspect_err(|error| eprintln!("not run: no /dev/shm here: {error}"));
        Some(Self {
            folder: folder.ok()?,
            mounted: None,
        })
    }

    /// An overlay over the disk, as containers have it.
    fn overlay() -> Option<Self> {
        Self::mount("overlay", |folder| {
            let at = |name| folder.join(name).display().to_string();
            let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
            format!("lowerdir={lower},upperdir={upper},workdir={work}")
        })
    }

    /// A file system without direct reads.
    fn without_direct_reads() -> Option<Self> {
        Self::mount("ramfs", |_| "mode=755".to_owned())
    }

    fn mount(kind: &str, options: impl Fn(&Path) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "mounted"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mounted = folder.path().join("mounted");
        let mut command = Command::new("mount");
        command.args(["-t", kind, kind, "-o", &options(folder.path())]);
        match command.arg(&mounted).output() {
            Ok(output) if output.status.success() => {}
            other => {
                eprintln!("not run: no {kind} can be mounted here: {other:?}");
                return None;
            }
        }
        Some(Self {
            folder,
            mounted: Some(mounted),
        })
    }

    fn path(&self) -> &Path {
        self.mounted.as_deref().unwrap_or(self.folder.path())
    }

    /// Writes a file, which is in the page cache afterwards.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        // Pages that are not written yet cannot be given up.
        File::open(&path).unwrap().sync_all().unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
        }
    }
}

/// The share of a file in the page cache.
fn share(path: &Path) -> Option<f64> {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    Some(os::residency(&file, len)?.share())
}

/// Empties the page cache of a file; false, and said aloud, where that cannot be.
fn cooled(path: &Path) -> bool {
    let dropped = os::drop_page_cache(&File::open(path).unwrap());
    let share = share(path);
    let cold = share == Some(0.0);
    if !cold {
        eprintln!(
            "not run: {} stays cached: {dropped:?}, {share:?}",
            path.display()
        );
    }
    cold
}

#[test]
fn overlays_tell_what_of_the_file_beneath_is_cached() {
    let Some(place) = Place::overlay() else {
        return;
    };
    let path = place.write("file", &vec![7; LEN]);
    let file = File::open(&path).unwrap();
    assert_eq!(share(&path), Some(1.0));
    assert_eq!(os::cached_bytes(&file, 1 << 20, 1 << 20), Some(1 << 20));
    os::drop_page_cache(&file).unwrap();
    assert_eq!(share(&path), Some(0.0));
    assert_eq!(os::cached_bytes(&file, 1 << 20, 1 << 20), Some(0));
}

/// A shard of `len` bytes, all of them in tensors of up to 500,000, the first one at `header`.
fn sample(len: usize, header: usize) -> Sample {
    let bytes = pattern(len, 11);
    let mut builder = Catalog::builder();
    for (index, tensor) in bytes[header..].chunks(500_000).enumerate() {
        let offset = (header + index * 500_000) as u64;
        let extent = Extent::new(ShardId::FIRST, offset, tensor.len() as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([tensor.len()]).unwrap();
        let name = format!("t{index}");
        builder
            .entry(name, Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![bytes],
    }
}

/// Loads the sample from its file, checks every byte, and says how it was read.
fn load(sample: &Sample, path: &Path, options: &LoadOptions) -> FileReport {
    let shards = [Shard::new(path, Arc::new(FileStorage::open(path).unwrap()))];
    let loaded = sample.load(&shards, HostDevice::new(), options).unwrap();
    for tensor in &loaded {
        let range = tensor.entry().extent().range();
        let expected = &sample.shards[0][range.start as usize..range.end as usize];
        assert!(tensor.as_bytes().unwrap() == expected, "{}", tensor.name());
    }
    loaded.report().files[0].clone()
}

fn forced(reader: Reader) -> LoadOptions {
    LoadOptions::default().reader(reader)
}

/// Whether the report says that `reader` was refused, for a reason with `why` in it.
fn refused(file: &FileReport, reader: ReaderKind, why: &str) -> bool {
    let mut refused = file.refused.iter();
    refused.any(|other| other.reader == reader && other.why.contains(why))
}

#[test]
fn cold_files_are_read_directly() {
    let (place, sample) = (Place::disk(), sample(LEN, 96));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    let file = load(&sample, &path, &LoadOptions::default());
    assert_eq!(file.cached_before.unwrap().resident_pages, 0);
    if refused(&file, ReaderKind::Direct, "") {
        eprintln!("not run: no direct reads here: {file:?}");
        return;
    }
    assert_eq!(file.reader, Some(ReaderKind::Direct));
    assert!(
        refused(&file, ReaderKind::Buffered, "0 % are in the page cache"),
        "{file:?}"
    );
    assert!(refused(&file, ReaderKind::Map, "not requested"), "{file:?}");
}

#[test]
fn warm_files_are_read_from_the_page_cache() {
    let sample = sample(LEN, 96);
    for place in [Some(Place::disk()), Place::memory(), Place::overlay()] {
        let Some(place) = place else { continue };
        let path = place.write("file", &sample.shards[0]);
        let Some(share) = share(&path).filter(|share| *share >= 0.9) else {
            eprintln!("not run: {} does not stay cached", path.display());
            continue;
        };
        let file = load(&sample, &path, &LoadOptions::default());
        assert_eq!(file.reader, Some(ReaderKind::Buffered), "{file:?}");
        assert!(file.cached_before.unwrap().share() >= share);
        assert!(
            refused(&file, ReaderKind::Direct, "% are in the page cache"),
            "{file:?}"
        );
    }
}

#[test]
fn files_cached_in_part_are_read_directly_and_from_the_page_cache() {
    let (place, sample) = (Place::disk(), sample(32 << 20, 96));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    std::io::copy(
        &mut File::open(&path).unwrap().take(12 << 20),
        &mut std::io::sink(),
    )
    .unwrap();
    let before = share(&path).unwrap();
    if !(0.1..0.9).contains(&before) {
        eprintln!("not run: reading a part caches {before}");
        return;
    }
    let file = load(&sample, &path, &LoadOptions::default());
    if refused(&file, ReaderKind::Direct, "") {
        eprintln!("not run: no direct reads here: {file:?}");
        return;
    }
    assert_eq!(file.reader, Some(ReaderKind::Direct));
    assert!(
        refused(
            &file,
            ReaderKind::Buffered,
            "cached parts are copied from there"
        ),
        "{file:?}"
    );
}

#[test]
fn small_files_are_read_through_the_page_cache() {
    let (place, sample) = (Place::disk(), sample(1 << 20, 8));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    let file = load(&sample, &path, &LoadOptions::default());
    assert_eq!(file.reader, Some(ReaderKind::Buffered));
    assert!(
        refused(
            &file,
            ReaderKind::Direct,
            "opening for O_DIRECT costs more than the read"
        ),
        "{file:?}"
    );
}

#[test]
fn file_systems_without_direct_reads_are_read_through_the_page_cache() {
    let Some(place) = Place::without_direct_reads() else {
        return;
    };
    let sample = sample(LEN, 96);
    let path = place.write("file", &sample.shards[0]);
    for reader in [Reader::Direct, Reader::Uring] {
        let file = load(&sample, &path, &forced(reader));
        assert_eq!(file.reader, Some(ReaderKind::Buffered));
        assert!(refused(&file, ReaderKind::Direct, ""), "{file:?}");
    }
}

#[test]
fn readers_that_are_asked_for_run_whatever_is_cached() {
    let (place, sample) = (Place::disk(), sample(LEN, 96));
    let path = place.write("file", &sample.shards[0]);
    for cold in [false, true] {
        if cold && !cooled(&path) {
            return;
        }
        for (reader, name) in [
            (Reader::Direct, ReaderKind::Direct),
            (Reader::Uring, ReaderKind::Uring),
            (Reader::Buffered, ReaderKind::Buffered),
        ] {
            let file = load(&sample, &path, &forced(reader));
            if refused(&file, ReaderKind::Direct, "") && reader != Reader::Buffered {
                eprintln!("not run: no direct reads here: {file:?}");
            } else if refused(&file, ReaderKind::Uring, "") {
                eprintln!("not run: no io_uring here: {file:?}");
            } else {
                assert_eq!(file.reader, Some(name), "{file:?}");
            }
            let asked = refused(&file, ReaderKind::Direct, "buffered reads were requested");
            assert_eq!(asked, reader == Reader::Buffered);
        }
    }
}

/// Two tensors of which the second one suits neither the first one nor pages.
fn misaligned() -> Sample {
    let tensor = 2 << 20;
    let bytes = pattern(2 * tensor + 97, 12);
    let mut builder = Catalog::builder();
    for (name, offset) in [("even", 96), ("odd", 97 + tensor as u64)] {
        let extent = Extent::new(ShardId::FIRST, offset, tensor as u64);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::contiguous([tensor / 4]).unwrap();
        builder
            .entry(name, Dtype::F32, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![bytes],
    }
}

/// Loads a file of which nothing, or everything, is cached, and says how much is afterwards.
fn share_after(place: &Place, sample: &Sample, warm: bool, options: &LoadOptions) -> Option<f64> {
    let path = place.write("file", &sample.shards[0]);
    if !warm && !cooled(&path) {
        return None;
    }
    if warm && share(&path) != Some(1.0) {
        eprintln!("not run: {} does not stay cached", path.display());
        return None;
    }
    load(sample, &path, options);
    share(&path)
}

#[test]
fn the_page_cache_is_left_as_the_policy_says() {
    let readers = [
        Reader::Auto,
        Reader::Buffered,
        Reader::Direct,
        Reader::Uring,
    ];
    for place in [Some(Place::disk()), Place::overlay()] {
        let Some(place) = place else { continue };
        let all = || {
            readers
                .into_iter()
                .flat_map(|reader| [(reader, true), (reader, false)])
        };
        for (sample, (reader, warm)) in [sample(LEN, 96), sample(900_000, 96), misaligned()]
            .iter()
            .flat_map(|sample| all().map(move |way| (sample, way)))
        {
            let after = |policy| {
                let options = forced(reader).page_cache(policy);
                share_after(&place, sample, warm, &options)
            };
            let at = format!("{} by {reader:?}, warm: {warm}", place.path().display());
            if let Some(kept) = after(PageCache::Keep) {
                assert!(kept == 1.0 || !warm, "{at}: {kept}");
                assert!(kept > 0.9 || reader != Reader::Buffered, "{at}: {kept}");
            }
            if let Some(dropped) = after(PageCache::DropAfter) {
                assert_eq!(dropped, 0.0, "{at}");
            }
            if let Some(bypassed) = after(PageCache::Bypass) {
                assert_eq!(bypassed, f64::from(u8::from(warm)), "{at}");
            }
        }
    }
}

#[test]
fn what_is_cached_in_part_stays_so_when_the_page_cache_is_bypassed() {
    let (place, sample) = (Place::disk(), sample(32 << 20, 96));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    let mut part = File::open(&path).unwrap().take(12 << 20);
    std::io::copy(&mut part, &mut std::io::sink()).unwrap();
    let before = share(&path).unwrap();
    let options = LoadOptions::default().page_cache(PageCache::Bypass);
    let file = load(&sample, &path, &options);
    if file.reader == Some(ReaderKind::Direct) {
        assert_eq!(share(&path), Some(before));
    } else {
        eprintln!("not run: no direct reads here: {file:?}");
    }
}

#[test]
fn direct_reads_into_memory_of_the_caller_leave_the_page_cache_as_it_was() {
    let (place, sample) = (Place::disk(), sample(12 << 20, 96));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    let mut memory: Vec<(&str, Vec<u8>)> = sample
        .catalog
        .entries()
        .iter()
        .map(|entry| (entry.name(), vec![0; entry.byte_len() as usize + 1]))
        .collect();
    // No address agrees with the file's pages.
    let slices = memory
        .iter_mut()
        .map(|(name, bytes)| (*name, &mut bytes[1..]));
    let shards = [Shard::new(
        &path,
        Arc::new(FileStorage::open(&path).unwrap()),
    )];
    let (options, control) = (LoadOptions::default(), Control::default());
    let loaded = load_into(
        &sample.catalog,
        &shards,
        |_| true,
        slices,
        &options,
        &control,
    );
    let report = loaded.unwrap().report;
    for ((_, bytes), entry) in memory.iter().zip(sample.catalog.entries()) {
        let range = entry.extent().range();
        assert!(bytes[1..] == sample.shards[0][range.start as usize..range.end as usize]);
    }
    let file = &report.files[0];
    if file.reader != Some(ReaderKind::Direct) {
        eprintln!("not run: no direct reads here: {file:?}");
        return;
    }
    assert_eq!(share(&path), Some(0.0));
    assert_eq!(file.bytes_in_place, 0);
    assert_eq!(file.bytes_bounced, report.bytes_read);
    assert!(report.peak_staging_bytes > 0);
}

#[test]
fn direct_reads_land_in_exact_groups_that_begin_where_their_page_says() {
    let (place, sample) = (Place::disk(), sample(12 << 20, 96));
    let path = place.write("file", &sample.shards[0]);
    if !cooled(&path) {
        return;
    }
    let shards = [Shard::new(
        &path,
        Arc::new(FileStorage::open(&path).unwrap()),
    )];
    let device = HostDevice::new().with_exact_groups();
    let loaded = sample.load(&shards, device, &LoadOptions::default());
    let loaded = loaded.unwrap();
    for tensor in &loaded {
        let range = tensor.entry().extent().range();
        let bytes = tensor.as_bytes().unwrap();
        assert!(bytes == &sample.shards[0][range.start as usize..range.end as usize]);
        assert_eq!(bytes.len(), tensor.group().len());
        assert_eq!(bytes.as_ptr().addr() as u64 % 4096, range.start % 4096);
    }
    let file = &loaded.report().files[0];
    if file.reader != Some(ReaderKind::Direct) {
        eprintln!("not run: no direct reads here: {file:?}");
        return;
    }
    assert_eq!(share(&path), Some(0.0));
    // But for the last tensor, which is small.
    assert!(file.bytes_bounced <= 500_000, "{file:?}");
    assert_eq!(
        file.bytes_in_place + file.bytes_bounced,
        loaded.report().bytes_read
    );
}

#[test]
fn files_in_memory_stay_there_whatever_the_policy() {
    let Some(place) = Place::memory() else { return };
    for policy in [PageCache::Keep, PageCache::DropAfter, PageCache::Bypass] {
        let options = LoadOptions::default().page_cache(policy);
        let after = share_after(&place, &sample(LEN, 96), true, &options);
        assert!(
            after.is_none_or(|share| share == 1.0),
            "{policy:?}: {after:?}"
        );
    }
}
