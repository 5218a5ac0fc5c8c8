//! Signatures that model-signing 1.1.1 wrote, and altered ones.
//!
//! `signed/model/model.sig` is by `model_signing sign key`, `signed/sharded.sig` by its Python
//! interface with shards of 64 bytes; both with the key whose public half is `signed/key.pub`.

use std::fs;
use std::path::{Path, PathBuf};

use tensorlift::trust::{Comparison, SignedModel, check};
use tensorlift::{Checkpoint, Control, Error, ErrorKind, LoadOptions};

/// A copy of the signed model and its signatures.
fn signed() -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/signed");
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("model/sub")).unwrap();
    let files = [
        "config.json",
        "model.safetensors",
        "model.sig",
        "sub/notes.txt",
    ];
    let files = files.map(|name| format!("model/{name}"));
    for name in files
        .iter()
        .map(String::as_str)
        .chain(["sharded.sig", "key.pub"])
    {
        fs::copy(from.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn read(at: &Path, signature: &str) -> Result<SignedModel, Error> {
    SignedModel::read(&at.join(signature), &at.join("key.pub"), &at.join("model"))
}

/// The files that are not right.
fn wrong(at: &Path, signature: &str) -> Vec<(String, Comparison)> {
    let model = read(at, signature).unwrap();
    let (options, control) = (LoadOptions::default(), Control::default());
    let checked = check(&model.expected, &model.present, &options, &control).unwrap();
    let wrong = checked
        .into_iter()
        .filter(|file| !file.comparison.is_right());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    wrong
        .map(|file| (name(&file.path), file.comparison))
        .collect()
}

const SIGNATURES: [&str; 2] = ["model/model.sig", "sharded.sig"];

#[test]
fn a_signed_model_is_right_and_loads() {
    let signed = signed();
    for signature in SIGNATURES {
        assert_eq!(wrong(signed.path(), signature), [], "{signature}");
        let model = read(signed.path(), signature).unwrap();
        let checkpoint = Checkpoint::open(signed.path().join("model")).unwrap();
        let loaded = checkpoint.loader().expect(model.expected).load().unwrap();
        assert!(loaded.report().hashed.as_ref().unwrap().matched >= 1);
    }
}

#[test]
fn each_altered_byte_of_a_signature_is_refused() {
    let signed = signed();
    for signature in SIGNATURES {
        let path = signed.path().join(signature);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut altered = bytes.clone();
                altered[at] ^= flip;
                fs::write(&path, &altered).unwrap();
                assert!(
                    read(signed.path(), signature).is_err(),
                    "{signature}: {at} ^ {flip}"
                );
            }
        }
        fs::write(&path, &bytes).unwrap();
        read(signed.path(), signature).unwrap();
    }
}

#[test]
fn each_altered_byte_of_a_file_is_found() {
    let signed = signed();
    for signature in SIGNATURES {
        for name in ["config.json", "model.safetensors", "sub/notes.txt"] {
            let path = signed.path().join("model").join(name);
            let bytes = fs::read(&path).unwrap();
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 4;
                fs::write(&path, &altered).unwrap();
                let wrong = wrong(signed.path(), signature);
                let file = path.file_name().unwrap().to_str().unwrap();
                assert!(
                    matches!(&wrong[..], [(name, _)] if name == file),
                    "{wrong:?}"
                );
            }
            fs::write(&path, &bytes).unwrap();
        }
        let model = signed.path().join("model");
        fs::write(model.join("new.txt"), "x").unwrap();
        let further = wrong(signed.path(), signature);
        assert_eq!(further, [("new.txt".to_owned(), Comparison::Unexpected)]);
        fs::remove_file(model.join("new.txt")).unwrap();
        let config = fs::read(model.join("config.json")).unwrap();
        fs::write(model.join("config.json"), [&config[..], b" "].concat()).unwrap();
        assert_eq!(wrong(signed.path(), signature).len(), 1);
        fs::write(model.join("config.json"), config).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn links_are_refused_unless_they_were_signed() {
    let signed = signed();
    let link = signed.path().join("model/link");
    std::os::unix::fs::symlink("config.json", link).unwrap();
    for signature in SIGNATURES {
        assert_eq!(
            read(signed.path(), signature).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }
}

#[test]
fn another_key_is_refused() {
    let signed = signed();
    // A point of the curve that nobody signed with: the generator.
    let other = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n\
        6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
        -----END PUBLIC KEY-----\n";
    fs::write(signed.path().join("key.pub"), other).unwrap();
    for signature in SIGNATURES {
        let error = read(signed.path(), signature).unwrap_err();
        assert!(
            error.to_string().contains("hash of the public key"),
            "{error}"
        );
    }
    fs::write(signed.path().join("key.pub"), "no key").unwrap();
    assert_eq!(
        read(signed.path(), "sharded.sig").unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}
