//! Loads that fail leave nothing behind: no thread, no descriptor, no mapping.

use std::io;
use std::sync::Arc;

use tensorlift::{CancelToken, Checkpoint, ErrorKind, LoadOptions, MemoryStorage, Mode};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_storage::wrap::Failing;
use tensorlift_tensor_meta::Dtype;

/// A checkpoint of four shards of 1 MB.
fn spec() -> CheckpointSpec {
    let spec = CheckpointSpec::new(Format::safetensors()).shards(4);
    (0..40).fold(spec, |spec, index| {
        spec.tensor(format!("t{index:02}"), Dtype::F32, [25_000])
    })
}

/// Open descriptors and mappings of files below `folder`.
#[cfg(target_os = "linux")]
pub(crate) fn held(folder: &std::path::Path) -> (usize, usize) {
    let within = |path: &str| path.contains(&*folder.to_string_lossy());
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let descriptors = targets
        .filter(|target| within(&target.to_string_lossy()))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (
        descriptors,
        maps.lines().filter(|line| within(line)).count(),
    )
}

#[test]
#[cfg(target_os = "linux")]
fn a_load_holds_files_only_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    spec().write(folder.path()).unwrap();
    for mode in [Mode::Copy, Mode::Map] {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let loaded = checkpoint
            .loader()
            .options(LoadOptions::default().mode(mode))
            .load()
            .unwrap();
        drop(checkpoint);
        let (descriptors, mappings) = held(folder.path());
        assert_eq!(descriptors, 0, "{mode:?}");
        assert_eq!(mappings > 0, mode == Mode::Map);
        drop(loaded);
        assert_eq!(held(folder.path()), (0, 0));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_failed_load_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    spec().write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    for mode in [Mode::Copy, Mode::Map] {
        let options = LoadOptions::default().mode(mode);
        let error = checkpoint
            .loader()
            .options(options.clone())
            .cancel_token(cancel.clone())
            .load();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
        let error = checkpoint
            .loader()
            .options(options.memory_bytes(1000))
            .load();
        assert_eq!(error.is_err(), mode == Mode::Copy);
    }
    drop(checkpoint);
    assert_eq!(held(folder.path()), (0, 0));
}

#[test]
fn a_failing_read_names_file_tensor_and_bytes() {
    let bytes = spec().shards(1).to_bytes();
    let middle = bytes.len() as u64 / 2;
    let storage = Failing::new(MemoryStorage::new(bytes), middle, || {
        io::Error::from_raw_os_error(libc::EIO)
    });
    let checkpoint = Checkpoint::from_storage("broken disk", Arc::new(storage)).unwrap();
    let error = checkpoint.loader().load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    let message = error.to_string();
    assert!(message.starts_with("broken disk: tensor \"t"), "{message}");
    assert!(error.extent().unwrap().range().contains(&middle));
}

#[test]
#[cfg(unix)]
fn a_shard_cut_short_after_opening_is_an_error_in_both_modes() {
    for mode in [Mode::Copy, Mode::Map] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, spec().shards(1).to_bytes()).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(9000)
            .unwrap();
        let error = checkpoint
            .loader()
            .options(LoadOptions::default().mode(mode))
            .load()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{mode:?}: {error}");
        assert_eq!(error.path(), Some(&*path));
    }
}

#[test]
fn loads_at_once_get_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec();
    spec.write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let loaded = checkpoint.loader().load().unwrap();
                for expected in spec.expected() {
                    let tensor = loaded.tensor(&expected.name).unwrap();
                    assert_eq!(tensor.as_bytes().unwrap(), expected.bytes);
                }
            });
        }
    });
}
