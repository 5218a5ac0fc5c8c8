use std::fs;
use std::path::Path;

use tensorlift_shard_index::{Error, Index, IndexError};
use tensorlift_tensor_meta::{Error as MetaError, ErrorKind, Limits};

use crate::{folder, open};

#[test]
fn near_names_are_suggested() {
    let there = folder(&["model.safetensors", "weights/x.bin"]);
    let error = open(there.path().join("modle.safetensors")).unwrap_err();
    let Error::NotFound { near, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(near, &[there.path().join("model.safetensors")]);
    assert!(
        error.to_string().contains("\"model.safetensors\""),
        "{error}"
    );
    let error = open(there.path().join("wieghts/deep/x.bin")).unwrap_err();
    let Error::NotFound { near, folder, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (&near[..], &**folder),
        (&[there.path().join("weights")][..], there.path())
    );
    // A file is no folder.
    let error = open(there.path().join("model.safetensors/x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
}

#[test]
fn odd_targets_are_errors() {
    assert!(matches!(open(""), Err(Error::EmptyTarget)));
    assert!(matches!(open("a\0b"), Err(Error::NotFound { .. })));
    assert!(matches!(
        open("x".repeat(5000)),
        Err(Error::NotFound { .. })
    ));
    #[cfg(unix)]
    assert!(matches!(open("/dev/null"), Err(Error::NotAFile { .. })));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_never_opened() {
    use std::os::unix::net::UnixListener;
    let there = folder(&["model.safetensors"]);
    let socket = there.path().join("x.safetensors");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(matches!(open(&socket), Err(Error::NotAFile { .. })));
    let below = there.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let _below = UnixListener::bind(below.join("y.safetensors")).unwrap();
    assert!(open(there.path()).unwrap().choice.passed_over.is_empty());
}

#[cfg(unix)]
#[test]
fn loops_of_links_end() {
    let there = folder(&[]);
    let path = there.path().join("model.safetensors");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(open(&path), Err(Error::Io { .. })));
    // Whoever opens the shard says why it cannot be read.
    assert_eq!(open(there.path()).unwrap().shards, [path]);
}

#[test]
fn each_error_says_who_must_act_and_where() {
    let there = folder(&[
        "empty_/x",
        "gguf/a.gguf",
        "two/a.bin",
        "two/b.bin",
        "parts/a-00002-of-00002.bin",
        "shards/m.bin.index.json>x.bin",
        "climb/m.bin.index.json>../x.bin",
        "long/m.bin.index.json>x.bin",
        "pipeline/unet/a.bin",
    ]);
    let empty = there.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let meta = |target: &str| -> MetaError { open(there.path().join(target)).unwrap_err().into() };
    for (target, kind, path, remedy) in [
        (
            "missing",
            ErrorKind::NotFound,
            "missing",
            "check the spelling",
        ),
        (
            "empty",
            ErrorKind::NotFound,
            "empty",
            "fetch the checkpoint",
        ),
        ("gguf", ErrorKind::Unsupported, "gguf", "fetch the model's"),
        (
            "pipeline",
            ErrorKind::NotFound,
            "pipeline",
            "name one of the folders",
        ),
        ("two", ErrorKind::Misuse, "two", "name one of the files"),
        (
            "parts",
            ErrorKind::NotFound,
            "parts",
            "fetch what is missing",
        ),
        (
            "shards",
            ErrorKind::NotFound,
            "shards/m.bin.index.json",
            "fetch what is missing",
        ),
        (
            "climb",
            ErrorKind::Malformed,
            "climb/m.bin.index.json",
            "fetch the index again",
        ),
    ] {
        let error = meta(target);
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.path(), Some(&*there.path().join(path)), "{error}");
        assert!(
            error.remedy().is_some_and(|text| text.starts_with(remedy)),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let error: MetaError = open("no--such@main").unwrap_err().into();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Misuse, None));
    let error: MetaError = open("org/name").unwrap_err().into();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::NotFound, Some(Path::new("org/name")))
    );
    assert!(
        error.to_string().ends_with("hf download org/name"),
        "{error}"
    );

    let mut limits = Limits::default();
    limits.tensors = 0;
    let error = Index::parse(crate::index(&["a"]).as_bytes(), &limits).unwrap_err();
    assert!(matches!(
        error,
        IndexError::LimitExceeded {
            what: "tensors",
            ..
        }
    ));
    assert_eq!(MetaError::from(error).kind(), ErrorKind::LimitExceeded);
}

/// Root may read everything, so the refusal cannot be made there.
#[cfg(unix)]
#[test]
fn what_may_not_be_read_is_a_storage_error() {
    use std::os::unix::fs::PermissionsExt;
    let there = folder(&["locked/model.safetensors", "locked.safetensors"]);
    let (file, inside) = (
        there.path().join("locked.safetensors"),
        there.path().join("locked"),
    );
    for path in [&file, &inside] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    if fs::read_dir(&inside).is_ok() {
        eprintln!("not run: this user may read everything");
    } else {
        for path in [&file, &inside] {
            let error: MetaError = open(path).unwrap_err().into();
            assert_eq!(
                (error.kind(), error.path()),
                (ErrorKind::Storage, Some(&**path))
            );
            assert_eq!(error.remedy(), Some("allow this user to read it"));
        }
    }
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).unwrap();
}
