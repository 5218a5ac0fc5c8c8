//! Files that change between opening and the end of a load.

use std::path::Path;
use std::time::Duration;

use tensorlift::{Checkpoint, ErrorKind, LoadOptions, Mode, Reader};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

use super::faults::held;

/// Enough shards that none is kept open.
const MANY: usize = 20;

fn spec(shards: usize) -> CheckpointSpec {
    let spec = CheckpointSpec::new(Format::safetensors()).shards(shards);
    (0..40).fold(spec, |spec, index| {
        spec.tensor(format!("t{index:02}"), Dtype::F32, [50_000])
    })
}

/// Every way to read a file.
fn ways() -> [LoadOptions; 5] {
    let reader = |reader| LoadOptions::default().reader(reader);
    [
        LoadOptions::default(),
        reader(Reader::Buffered),
        reader(Reader::Direct),
        reader(Reader::Uring),
        LoadOptions::default().mode(Mode::Map),
    ]
}

/// Other bytes of the same length, in the same file.
fn rewrite(path: &Path) {
    // Older kernels tell times apart by some milliseconds only.
    std::thread::sleep(Duration::from_millis(20));
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, vec![1; bytes.len()]).unwrap();
}

/// Another file of the same length and time.
fn rename_over(path: &Path) {
    let other = path.with_extension("other");
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::copy(path, &other).unwrap();
    let file = std::fs::File::options().write(true).open(&other).unwrap();
    file.set_modified(modified).unwrap();
    std::fs::rename(&other, path).unwrap();
}

#[test]
fn a_file_rewritten_after_opening_is_an_error_however_it_is_read() {
    for (way, shards) in ways().iter().flat_map(|way| [(way, 1), (way, MANY)]) {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(shards);
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let path = folder.path().join(&spec.file_names()[shards / 2]);
        rewrite(&path);
        let error = checkpoint.loader().options(way.clone()).load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{way:?}: {error}");
        assert_eq!(error.path(), Some(&*path), "{way:?}: {error}");
        let message = error.to_string();
        assert!(
            message.contains("changed while it was loaded") || message.contains("another file"),
            "{way:?}: {message}"
        );
    }
}

#[test]
fn a_file_renamed_over_one_that_is_open_changes_nothing() {
    for way in ways().iter().filter(|way| way.mode == Mode::Copy) {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(1);
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let path = folder.path().join(&spec.file_names()[0]);
        rename_over(&path);
        rewrite(&path);
        let loaded = checkpoint.loader().options(way.clone()).load().unwrap();
        for expected in spec.expected() {
            let tensor = loaded.tensor(&expected.name).unwrap();
            assert!(tensor.as_bytes().unwrap() == expected.bytes, "{way:?}");
        }
        // By now it would be opened again.
        let error = checkpoint.loader().options(way.clone()).load().unwrap_err();
        assert_eq!(error.path(), Some(&*path), "{way:?}: {error}");
    }
}

#[test]
fn a_file_renamed_over_one_that_is_opened_again_is_an_error() {
    for way in ways() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(MANY);
        spec.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let path = folder.path().join(&spec.file_names()[7]);
        rename_over(&path);
        let error = checkpoint.loader().options(way.clone()).load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{way:?}: {error}");
        assert_eq!(error.path(), Some(&*path), "{way:?}: {error}");
    }
}

#[test]
fn asking_how_files_would_be_read_keeps_none_open() {
    for way in ways() {
        let folder = tempfile::tempdir().unwrap();
        spec(MANY).write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let files = checkpoint.loader().options(way).probe().unwrap();
        assert_eq!(files.len(), MANY);
        assert_eq!(held(folder.path()), (0, 0));
    }
}
