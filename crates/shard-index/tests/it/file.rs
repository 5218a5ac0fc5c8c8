use std::fs;

use tensorlift_shard_index::{Error, Form, IndexError, Route, resolve};
use tensorlift_tensor_meta::{Limits, ShardId};

use crate::{fill, folder, open, options, relative};

#[test]
fn a_file_of_any_name_is_itself() {
    for name in [
        "model.safetensors",
        "weights",
        "a.gguf",
        "x.bin",
        "training_args.bin",
        ".hidden",
    ] {
        let there = folder(&[name, "config.json", "other.safetensors"]);
        let path = there.path().join(name);
        let resolved = open(&path).unwrap();
        assert_eq!(resolved.shards, std::slice::from_ref(&path));
        assert_eq!(resolved.folder, there.path());
        assert_eq!(
            resolved.companions.config,
            Some(there.path().join("config.json"))
        );
        assert_eq!(resolved.companions.tokenizer, None);
        assert_eq!(
            (resolved.choice.route, resolved.choice.form),
            (Route::File, Form::Single)
        );
        assert!(resolved.index.is_none() && resolved.choice.passed_over.is_empty());
    }
}

#[test]
fn a_part_on_its_own_is_told() {
    let there = folder(&["model-00002-of-00003.safetensors"]);
    let path = there.path().join("model-00002-of-00003.safetensors");
    let resolved = open(&path).unwrap();
    assert_eq!(
        (resolved.shards, resolved.choice.part),
        (vec![path], Some((2, 3)))
    );
}

#[test]
fn an_index_gives_its_shards_once_and_in_order_of_first_use() {
    let there = folder(&[
        "m.index.json>b.bin,a.bin,b.bin,sub/c.bin,a.bin",
        "a.bin",
        "b.bin",
        "sub/c.bin",
    ]);
    let resolved = open(there.path().join("m.index.json")).unwrap();
    assert_eq!(
        relative(there.path(), &resolved.shards),
        ["b.bin", "a.bin", "sub/c.bin"]
    );
    let index = resolved.index.unwrap();
    assert_eq!(index.shard_of("4"), Some(ShardId(1)));
    assert_eq!(resolved.choice.form, Form::Index);
}

#[test]
fn an_index_is_known_by_what_it_holds() {
    for name in ["list.json", "list", "list.bin"] {
        let there = folder(&[&format!("{name}>a.bin"), "a.bin"]);
        let path = there.path().join(name);
        let text = format!("\n\t {}", fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        let resolved = open(&path).unwrap();
        assert_eq!(
            relative(there.path(), &resolved.shards),
            ["a.bin"],
            "{name}"
        );
    }
}

#[test]
fn what_merely_begins_like_an_index_is_a_file() {
    let there = folder(&[]);
    // The header of this safetensors file has 0x7b bytes, so it begins with `{`.
    let header = [0x7b, 0, 0, 0, 0, 0, 0, 0, b'{', b'"'];
    for (name, bytes) in [
        ("a", &header[..]),
        ("b", b"{\"config\": 1}"),
        ("c", b"{not json"),
        ("d", b"{"),
        ("e", b""),
    ] {
        let path = there.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(open(&path).unwrap().choice.form, Form::Single, "{name}");
    }
    // Where the name promises JSON, it must be an index.
    fill(there.path(), &["config.json", "b.index.json"]);
    fs::write(there.path().join("config.json"), "{\"a\": 1}").unwrap();
    fs::write(
        there.path().join("b.index.json"),
        "version https://git-lfs.github.com/spec/v1",
    )
    .unwrap();
    let error = open(there.path().join("config.json")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Index {
                error: IndexError::NoWeightMap,
                ..
            }
        ),
        "{error}"
    );
    let error = open(there.path().join("b.index.json")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Index {
                error: IndexError::LfsPointer,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_index_over_the_limit_is_not_read() {
    let there = folder(&["m.index.json>a.bin", "a.bin"]);
    let path = there.path().join("m.index.json");
    let mut limits = Limits::default();
    limits.header_bytes = fs::metadata(&path).unwrap().len();
    assert!(resolve(&path, &options().limits(limits.clone())).is_ok());
    limits.header_bytes -= 1;
    let error = resolve(&path, &options().limits(limits)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Index {
                error: IndexError::LimitExceeded { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn shard_names_that_leave_the_folder_are_named_together() {
    for name in [
        "/a.bin",
        "../a.bin",
        "s/../../a.bin",
        "s//a.bin",
        "",
        "s/",
        "./a.bin",
        "..\\a.bin",
        "C:\\a.bin",
        "C:a.bin",
        "\\\\server\\a.bin",
    ] {
        let there = folder(&[
            "a.bin",
            &format!("m/m.index.json>a.bin,{name},../b.bin"),
            "m/a.bin",
        ]);
        let error = open(there.path().join("m/m.index.json")).unwrap_err();
        let Error::Index {
            error: IndexError::ShardNames(bad),
            ..
        } = error
        else {
            panic!("{name:?}: {error}");
        };
        let bad: Vec<_> = bad.iter().map(|bad| &*bad.name).collect();
        match name {
            "../b.bin" => assert_eq!(bad, ["../b.bin"]),
            _ => assert_eq!(bad, [name, "../b.bin"]),
        }
    }
    let there = folder(&["a.bin"]);
    let path = there.path().join("m.index.json");
    fs::write(&path, r#"{"weight_map": {"w": "a.bin\u0000.safetensors"}}"#).unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Index {
                error: IndexError::ShardNames(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn every_missing_shard_is_named() {
    let shards: Vec<_> = (0..1000).map(|n| format!("s{n}.bin")).collect();
    let there = folder(&[
        &format!("m.index.json>{}", shards.join(",")),
        "s3.bin",
        "s7.bin/x",
    ]);
    let error = open(there.path().join("m.index.json")).unwrap_err();
    let text = error.to_string();
    let Error::MissingShards {
        index,
        shards,
        missing,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!(
        (index, shards),
        (Some(there.path().join("m.index.json")), 1000)
    );
    assert_eq!(missing.len(), 999);
    assert_eq!(missing[6].found, "not a file");
    assert!(
        missing
            .iter()
            .all(|shard| shard.path != there.path().join("s3.bin"))
    );
    assert!(
        text.starts_with("999 of 1000 shards missing: \"s0.bin\""),
        "{text}"
    );
    assert!(
        text.ends_with("\"s7.bin\" (not a file) and 992 more"),
        "{text}"
    );
}

#[test]
fn a_thousand_shards_are_found() {
    let shards: Vec<_> = (1..=1000)
        .map(|n| format!("model-{n:05}-of-01000.safetensors"))
        .collect();
    let mut files: Vec<_> = shards.iter().map(String::as_str).collect();
    let index = format!("model.safetensors.index.json>{}", shards.join(","));
    files.push(&index);
    let there = folder(&files);
    let resolved = open(there.path()).unwrap();
    assert_eq!(relative(there.path(), &resolved.shards), shards);
    assert!(resolved.choice.passed_over.is_empty());
}
