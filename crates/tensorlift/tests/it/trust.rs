//! Files that are what somebody says, and files that are not.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tensorlift::trust::{CheckedFile, Comparison, Expected, Manifest, check};
use tensorlift::{Checkpoint, Control, Error, ErrorKind, HashAlgorithm, LoadOptions, Loaded};
use tensorlift_fixture_kit::{CheckpointSpec, Format, committed};
use tensorlift_tensor_meta::Dtype;

fn manifest_of(checkpoint: &Checkpoint, others: &[PathBuf]) -> Manifest {
    let (options, control) = (LoadOptions::default(), Control::default());
    Manifest::of(checkpoint, others, true, &options, &control).unwrap()
}

fn checked(expected: &Expected, present: &[PathBuf]) -> Vec<CheckedFile> {
    check(
        expected,
        present,
        &LoadOptions::default(),
        &Control::default(),
    )
    .unwrap()
}

fn load(path: &Path, expected: &Expected) -> Result<Loaded, Error> {
    Checkpoint::open(path)?
        .loader()
        .expect(expected.clone())
        .load()
}

/// A folder with three small tensors in one safetensors file, and its manifest.
fn small() -> (tempfile::TempDir, PathBuf, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let spec = CheckpointSpec::new(Format::safetensors());
    let spec = ["a", "b", "c"]
        .iter()
        .fold(spec, |spec, name| spec.tensor(*name, Dtype::F32, [9]));
    spec.write(folder.path()).unwrap();
    let file = folder.path().join(&spec.file_names()[0]);
    let manifest = manifest_of(&Checkpoint::open(&file).unwrap(), &[]);
    (folder, file, manifest)
}

#[test]
fn a_manifest_of_every_committed_checkpoint_is_right() {
    for committed in committed::all() {
        let path = committed::folder().join(&committed.path);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let manifest = manifest_of(&checkpoint, &[]);
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
        for file in &manifest.files {
            let bytes = fs::read(checkpoint.folder().join(&file.name)).unwrap();
            let sha256 = HashAlgorithm::Sha256.digest(&bytes).to_string();
            assert_eq!(file.sha256.as_ref(), Some(&sha256), "{}", file.name);
        }
        let expected = Expected::from_manifest(&manifest, &checkpoint.folder()).unwrap();
        let files: Vec<PathBuf> = checkpoint.files().map(Path::to_owned).collect();
        assert!(
            checked(&expected, &files)
                .iter()
                .all(|file| file.comparison.is_right())
        );
        if checkpoint.catalog().is_empty() {
            continue;
        }
        let all = checkpoint.loader().expect(expected.clone()).load().unwrap();
        assert!(
            all.report()
                .hashed
                .as_ref()
                .is_none_or(|hashed| hashed.matched == files.len())
        );
        // One tensor after another, each by its own hash.
        for entry in checkpoint.catalog().entries() {
            let one = checkpoint
                .loader()
                .select(|other| other.name() == entry.name());
            one.expect(expected.clone()).load().unwrap();
        }
    }
}

#[test]
fn each_flipped_byte_of_a_file_is_found_and_its_tensor_named() {
    let (folder, file, manifest) = small();
    let expected = Expected::from_manifest(&manifest, folder.path()).unwrap();
    let bytes = fs::read(&file).unwrap();
    assert_eq!(load(&file, &expected).unwrap().tensors().len(), 3);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(&file, &flipped).unwrap();
        let [found] = &checked(&expected, &[])[..] else {
            panic!("one file");
        };
        let Comparison::Wrong { tensors, .. } = &found.comparison else {
            panic!("{at}: {found:?}");
        };
        let tensor = manifest.files[0]
            .tensors
            .iter()
            .find(|tensor| (tensor.offset..tensor.offset + tensor.bytes).contains(&(at as u64)));
        let names: Vec<&str> = tensor.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(tensors, &names);
        let error = load(&file, &expected).unwrap_err();
        if let Some(tensor) = tensor {
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert_eq!(
                (error.tensor(), error.path()),
                (Some(&*tensor.name), Some(&*file))
            );
            assert!(error.to_string().contains("expected BLAKE3"), "{error}");
        }
    }
}

#[test]
fn a_selection_is_checked_by_its_own_bytes_alone() {
    let (folder, file, manifest) = small();
    let expected = Expected::from_manifest(&manifest, folder.path()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let of = |name: &str| {
        let tensors = manifest.files[0].tensors.iter();
        tensors
            .clone()
            .find(|tensor| tensor.name == name)
            .unwrap()
            .clone()
    };
    let b = of("b");
    bytes[b.offset as usize] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let select = |name: &'static str| {
        let checkpoint = Checkpoint::open(&file)?;
        let loader = checkpoint
            .loader()
            .options(LoadOptions::default().merge_gap_bytes(0));
        loader.select_names([name]).expect(expected.clone()).load()
    };
    let right = select("a").unwrap();
    assert_eq!(right.report().bytes_read, of("a").bytes);
    assert_eq!(right.report().hashed.as_ref().unwrap().matched, 1);
    assert_eq!(select("b").unwrap_err().tensor(), Some("b"));

    // A header that gives the bytes another name or form: the whole file is hashed, and is wrong.
    for (from, to) in [("\"a\"", "\"x\""), ("F32", "I32")] {
        let text = fs::read(&file).unwrap();
        let at = text
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        let mut altered = text.clone();
        altered[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs::write(&file, &altered).unwrap();
        let checkpoint = Checkpoint::open(&file).unwrap();
        let first = checkpoint.catalog().entries()[0].name().to_owned();
        let loader = checkpoint.loader().select_names([first]);
        let error = loader.expect(expected.clone()).load().unwrap_err();
        assert!(error.to_string().contains("expected BLAKE3"), "{error}");
        fs::write(&file, &text).unwrap();
    }
}

#[test]
fn tensors_that_are_passed_on_are_checked_one_by_one() {
    let (folder, file, manifest) = small();
    let expected = Expected::from_manifest(&manifest, folder.path()).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    let mut passed_on = 0;
    let loader = checkpoint.loader().expect(expected);
    let report = loader.load_each(|_| {
        passed_on += 1;
        Ok(())
    });
    assert_eq!((passed_on, report.unwrap().hashed.unwrap().matched), (3, 3));
    let sums = Expected::from_sums(&sums_of(&file), folder.path()).unwrap();
    let refused = checkpoint.loader().expect(sums).load_each(|_| Ok(()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misuse);
}

fn sums_of(file: &Path) -> String {
    let digest = HashAlgorithm::Sha256.digest(&fs::read(file).unwrap());
    format!(
        "{digest}  {}\n",
        file.file_name().unwrap().to_str().unwrap()
    )
}

#[test]
fn other_lengths_missing_and_further_files_are_told() {
    let (folder, file, manifest) = small();
    let expected = Expected::from_manifest(&manifest, folder.path()).unwrap();
    let further = folder.path().join("other.safetensors");
    fs::copy(&file, &further).unwrap();
    let found = checked(&expected, &[file.clone(), further.clone()]);
    assert!(found[0].comparison.is_right());
    assert_eq!(found[1].comparison, Comparison::Unexpected);
    let error = load(&further, &expected).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a manifest does not have this file"),
        "{error}"
    );

    let mut bytes = fs::read(&file).unwrap();
    let len = bytes.len() as u64;
    bytes.pop();
    fs::write(&file, &bytes).unwrap();
    let wrong = Comparison::WrongLength {
        expected: len,
        found: len - 1,
    };
    assert_eq!(checked(&expected, &[])[0].comparison, wrong);
    fs::remove_file(&file).unwrap();
    let missing = &checked(&expected, &[])[0];
    assert!(
        matches!(missing.comparison, Comparison::Missing { .. }),
        "{missing:?}"
    );
    assert_eq!(missing.error().unwrap().path(), Some(&*file));
}

#[test]
fn a_model_in_memory_that_is_filled_is_checked_too() {
    let (folder, file, manifest) = small();
    let expected = Expected::from_manifest(&manifest, folder.path()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    let mut skeleton = tensorlift::skeleton::Skeleton::new();
    for entry in checkpoint.catalog().entries() {
        skeleton.add(entry.name(), [9], Some(Dtype::F32)).unwrap();
    }
    let filled = checkpoint.loader().expect(expected.clone()).fill(&skeleton);
    assert!(filled.is_err());
    let mut parameters: Vec<(String, Vec<u8>)> = skeleton_memory(&checkpoint);
    let memory = parameters
        .iter_mut()
        .map(|(name, bytes)| (name.as_str(), bytes));
    let error = checkpoint
        .loader()
        .expect(expected)
        .load_into(memory)
        .unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Malformed);
    assert!(!error.overwritten.is_empty());
}

fn skeleton_memory(checkpoint: &Checkpoint) -> Vec<(String, Vec<u8>)> {
    let entries = checkpoint.catalog().entries().iter();
    entries
        .map(|entry| (entry.name().to_owned(), vec![0; entry.byte_len() as usize]))
        .collect()
}

/// A model in a Hugging Face cache: each file a link to a blob of the name that `blob` gives.
#[cfg(unix)]
fn hub(blob: impl Fn(&[u8]) -> String) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--tiny");
    let snapshot = model.join("snapshots/1234");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("blobs")).unwrap();
    let (_folder, file, _) = small();
    let bytes = fs::read(&file).unwrap();
    let name = blob(&bytes);
    fs::write(model.join("blobs").join(&name), &bytes).unwrap();
    let link = snapshot.join("model.safetensors");
    std::os::unix::fs::symlink(format!("../../blobs/{name}"), &link).unwrap();
    (cache, link)
}

#[cfg(unix)]
#[test]
fn blobs_of_the_hub_are_what_their_names_say() {
    let sha256 = |bytes: &[u8]| HashAlgorithm::Sha256.digest(bytes).to_string();
    let git = |bytes: &[u8]| HashAlgorithm::GitSha1.digest(bytes).to_string();
    let names: [fn(&[u8]) -> String; 2] = [sha256, git];
    for name in names {
        let (_cache, link) = hub(name);
        let expected = Expected::from_hub([link.as_path()]);
        assert!(checked(&expected, &[])[0].comparison.is_right());
        assert_eq!(
            load(&link, &expected)
                .unwrap()
                .report()
                .hashed
                .as_ref()
                .unwrap()
                .matched,
            1
        );
        // Replaced, as by another revision that kept the name.
        let mut bytes = fs::read(&link).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(fs::canonicalize(&link).unwrap(), &bytes).unwrap();
        assert!(!checked(&expected, &[])[0].comparison.is_right());
        assert_eq!(
            load(&link, &expected).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }
}

#[cfg(unix)]
#[test]
fn a_blob_of_another_name_is_never_called_right() {
    for name in ["abc", &"x".repeat(64), &"0".repeat(41)] {
        let (_cache, link) = hub(|_| name.to_owned());
        let expected = Expected::from_hub([link.as_path()]);
        let [found] = &checked(&expected, &[])[..] else {
            panic!("one file");
        };
        assert!(
            matches!(found.comparison, Comparison::Unverifiable { .. }),
            "{found:?}"
        );
        assert!(found.error().is_some());
        let loaded = load(&link, &expected).unwrap();
        let hashed = loaded.report().hashed.clone().unwrap_or_default();
        assert_eq!(hashed.matched, 0);
        let checkpoint = Checkpoint::open(&link).unwrap();
        assert_eq!(expected.unverifiable(&checkpoint).len(), 1);
    }
}

#[test]
fn the_hash_of_a_git_blob_is_gits() {
    // `printf hello | git hash-object --stdin`
    let digest = HashAlgorithm::GitSha1.digest(b"hello");
    assert_eq!(
        digest.to_string(),
        "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
    );
    let sha256: [u8; 32] = Sha256::digest(b"hello").into();
    assert_eq!(HashAlgorithm::Sha256.digest(b"hello").bytes(), sha256);
}

#[test]
fn manifests_that_are_none_are_refused() {
    let (_folder, _, manifest) = small();
    let text = serde_json::to_string(&manifest).unwrap();
    let refused = |text: &str| Manifest::parse(text).unwrap_err().kind();
    assert_eq!(refused("{}"), ErrorKind::Malformed);
    assert_eq!(refused(&text.replace(":1,", ":2,")), ErrorKind::Unsupported);
    assert_eq!(
        refused(&text.replace("\"bytes\"", "\"size\"")),
        ErrorKind::Malformed
    );
    for (from, to) in [
        ("\"name\":\"model", "\"name\":\"../model"),
        ("\"blake3\":\"", "\"blake3\":\"0"),
    ] {
        let manifest = Manifest::parse(&text.replacen(from, to, 1)).unwrap();
        let error = Expected::from_manifest(&manifest, Path::new("/m")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
