//! What failed loads leave behind while their checkpoint lives on: nothing.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tensorlift::{CancelToken, Checkpoint, Error, ErrorKind, LoadOptions, Mode, Reader};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_storage::FileStorage;
use tensorlift_storage::wrap::Failing;
use tensorlift_tensor_meta::Dtype;

use super::faults::held;

/// A file of 40 MB.
fn write(folder: &Path) -> std::path::PathBuf {
    let spec = CheckpointSpec::new(Format::safetensors());
    let spec = (0..40).fold(spec, |spec, index| {
        spec.tensor(format!("t{index:02}"), Dtype::F32, [250_000])
    });
    let path = folder.join("model.safetensors");
    std::fs::write(&path, spec.to_bytes()).unwrap();
    path
}

/// All ways to copy a file, in chunks so small that something can happen between two of them.
fn ways() -> [LoadOptions; 3] {
    // Chunks of io_uring are large: the file has three.
    [
        (Reader::Buffered, 3),
        (Reader::Direct, 3),
        (Reader::Uring, 1),
    ]
    .map(|(reader, threads)| {
        let options = LoadOptions::default().reader(reader);
        options.chunk_bytes(64 << 10).read_threads(threads)
    })
}

/// Threads of this process that are called like this one, as those are that it began.
fn threads() -> usize {
    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|other| *other == name).count()
}

/// The error of a load of files below `folder`, once nothing of the load is left.
fn failed<T: Send>(
    name: &str,
    folder: &Path,
    load: impl FnOnce() -> Result<T, Error> + Send,
) -> Error {
    let before = held(folder);
    let load = move || {
        let error = load().err().expect("the load fails");
        // A thread that is done takes a moment to end.
        let mut moments = 0;
        while threads() > 1 {
            assert!(moments < 1000, "{} threads are left", threads() - 1);
            moments += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        error
    };
    let error = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, load).unwrap().join().unwrap()
    });
    let (descriptors, mappings) = held(folder);
    assert!(
        descriptors <= before.0,
        "{descriptors} descriptors, {before:?} before"
    );
    assert_eq!(mappings, 0);
    error
}

#[test]
fn of_a_disk_that_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path());
    let storage = Failing::new(FileStorage::open(&path).unwrap(), 4_000_000, || {
        io::Error::from_raw_os_error(libc::EIO)
    });
    let checkpoint = Checkpoint::from_storage(&path, Arc::new(storage)).unwrap();
    for way in ways() {
        let load = || checkpoint.loader().options(way).load();
        let error = failed("breaking disk", folder.path(), load);
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.extent().unwrap().range().contains(&4_000_000));
    }
}

#[test]
fn of_a_file_cut_short_meanwhile() {
    for way in ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path());
        let checkpoint = Checkpoint::open(&path).unwrap();
        let cut = path.clone();
        let cut = move |_| {
            File::options()
                .write(true)
                .open(&cut)
                .unwrap()
                .set_len(70_000)
                .unwrap();
        };
        let load = || {
            checkpoint
                .loader()
                .options(way.clone())
                .progress(cut)
                .load()
        };
        let error = failed("cut short", folder.path(), load);
        assert_eq!(error.kind(), ErrorKind::Storage, "{way:?}: {error}");
        assert_eq!(error.path(), Some(&*path));
        assert!(error.extent().unwrap().end() > 70_000, "{way:?}: {error}");
    }
}

#[test]
fn of_a_file_rewritten_meanwhile() {
    for way in ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path());
        let checkpoint = Checkpoint::open(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let rewrite = move |_| {
            std::thread::sleep(Duration::from_millis(1));
            let now = std::time::SystemTime::now();
            std::os::unix::fs::FileExt::write_all_at(&file, b"other bytes", 5_000_000).unwrap();
            file.set_modified(now + Duration::from_secs(1)).unwrap();
        };
        let load = || {
            checkpoint
                .loader()
                .options(way.clone())
                .progress(rewrite)
                .load()
        };
        let error = failed("rewritten", folder.path(), load);
        assert_eq!(error.kind(), ErrorKind::Storage, "{way:?}: {error}");
        assert_eq!(error.path(), Some(&*path));
        assert!(
            error.to_string().contains("changed while it was loaded"),
            "{error}"
        );
    }
}

#[test]
fn of_a_load_that_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mapping = LoadOptions::default().mode(Mode::Map);
    for way in ways().into_iter().chain([mapping]) {
        let token = CancelToken::new();
        // A mapping is one chunk.
        if way.mode == Mode::Map {
            token.cancel();
        }
        let cancel = token.clone();
        let load = || {
            let loader = checkpoint.loader().options(way).cancel_token(token);
            loader.progress(move |_| cancel.cancel()).load()
        };
        let error = failed("cancelled", folder.path(), load);
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn of_a_load_that_memory_does_not_suffice_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    for way in ways() {
        let load = || {
            checkpoint
                .loader()
                .options(way.clone().memory_bytes(1_000_000))
                .load()
        };
        let error = failed("no memory", folder.path(), load);
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}
