use std::path::Path;

use tensorlift_shard_index::{
    Error, Form, IndexUse, Reason, ResolveOptions, Route, Sniffed, resolve, resolve_files,
};

use crate::{fill, folder, open, options, relative};

const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// Each is preferred to all below it.
const PREFERENCE: [&str; 17] = [
    "model.safetensors.index.json>shard-a.dat",
    "model.safetensors",
    "model-00001-of-00001.safetensors",
    "diffusion_pytorch_model.safetensors.index.json>shard-a.dat",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors.index.json>shard-a.dat",
    "adapter_model.safetensors",
    "other.safetensors.index.json>shard-a.dat",
    "other.safetensors",
    "pytorch_model.bin.index.json>shard-a.dat",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json>shard-a.dat",
    "diffusion_pytorch_model.bin",
    "adapter_model.bin",
    "other.pt.index.json>shard-a.dat",
    "other.pth",
    "training_args.bin",
];

#[test]
fn the_order_of_preference_holds() {
    for first in 0..PREFERENCE.len() {
        let there = folder(&PREFERENCE[first..]);
        fill(there.path(), &["shard-a.dat", "config.json", "README.md"]);
        let resolved = open(there.path()).unwrap();
        let name = |entry: &'static str| entry.split('>').next().unwrap();
        let chosen = relative(there.path(), &[resolved.choice.chosen]);
        assert_eq!(chosen, [name(PREFERENCE[first])]);
        assert_eq!(resolved.choice.route, Route::Folder);
        let passed: Vec<_> = resolved
            .choice
            .passed_over
            .iter()
            .map(|other| other.path.clone())
            .collect();
        let rest = PREFERENCE[first + 1..].iter().map(|entry| name(entry));
        let (mut passed, mut rest) = (relative(there.path(), &passed), rest.collect::<Vec<_>>());
        passed.sort();
        rest.sort();
        assert_eq!(passed, rest);
        for other in &resolved.choice.passed_over {
            let is = |name: &str| other.path.ends_with(name);
            let reason = match () {
                () if is("training_args.bin") => Reason::TrainingState,
                () if is("model-00001-of-00001.safetensors") && first == 0 => Reason::Unlisted,
                () => Reason::Precedence,
            };
            assert_eq!(other.reason, reason, "{other}");
        }
    }
}

#[test]
fn every_torch_extension_counts() {
    for name in ["a.bin", "a.pt", "a.pth", "a.ckpt", "a.PT"] {
        let there = folder(&[
            name,
            "config.json",
            "optimizer.pt",
            "rng_state_0.pth",
            "scheduler.pt",
        ]);
        let resolved = open(there.path()).unwrap();
        assert_eq!(relative(there.path(), &resolved.shards), [name]);
        assert_eq!(resolved.choice.passed_over.len(), 3);
    }
}

#[test]
fn training_state_is_taken_only_alone() {
    let there = folder(&["optimizer.pt"]);
    assert_eq!(
        relative(there.path(), &open(there.path()).unwrap().shards),
        ["optimizer.pt"]
    );
    fill(there.path(), &["scheduler.pt"]);
    let error = open(there.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { candidates, .. } if candidates.len() == 2),
        "{error}"
    );
}

#[test]
fn several_without_an_index_are_all_named() {
    let there = folder(&["b.safetensors", "a.safetensors", "pytorch_model.bin"]);
    let error = open(there.path()).unwrap_err();
    let Error::Ambiguous { candidates, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        relative(there.path(), candidates),
        ["a.safetensors", "b.safetensors"]
    );
    assert_eq!(
        error.to_string(),
        r#"expected one checkpoint, found several: "a.safetensors", "b.safetensors""#
    );
}

#[test]
fn a_whole_series_of_parts_needs_no_index() {
    let there = folder(&[
        SHARDS[1],
        SHARDS[0],
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ]);
    let resolved = open(there.path()).unwrap();
    assert_eq!(relative(there.path(), &resolved.shards), SHARDS);
    assert_eq!(resolved.choice.form, Form::Parts);
    let [other] = &resolved.choice.passed_over[..] else {
        panic!("{}", resolved.choice);
    };
    assert_eq!((other.files, &other.reason), (2, &Reason::Precedence));
    let unpadded: Vec<_> = (1..=12).map(|n| format!("x-{n}-of-12.pt")).collect();
    let there = folder(&unpadded.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        relative(there.path(), &open(there.path()).unwrap().shards),
        unpadded
    );
    fill(there.path(), &["x-01-of-12.pt"]);
    let error = open(there.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { candidates, .. } if candidates.len() == 2),
        "{error}"
    );
}

#[test]
fn gaps_in_a_series_are_all_named() {
    let there = folder(&["x-00002-of-00004.bin", "x-00004-of-00004.bin"]);
    let error = open(there.path()).unwrap_err();
    let Error::MissingParts {
        present, missing, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        relative(there.path(), present),
        ["x-00002-of-00004.bin", "x-00004-of-00004.bin"]
    );
    assert_eq!(
        relative(there.path(), missing),
        ["x-00001-of-00004.bin", "x-00003-of-00004.bin"]
    );
    let there = folder(&["x-2-of-11.bin", "x-10-of-11.bin"]);
    let error = open(there.path()).unwrap_err();
    let Error::MissingParts { missing, .. } = &error else {
        panic!("{error}");
    };
    let expected = [1, 3, 4, 5, 6, 7, 8, 9, 11].map(|n| format!("x-{n}-of-11.bin"));
    assert_eq!(relative(there.path(), missing), expected);
    // A whole checkpoint of lower rank does not stand in.
    let there = folder(&[SHARDS[0], "pytorch_model.bin"]);
    assert!(matches!(
        open(there.path()),
        Err(Error::MissingParts { .. })
    ));
}

#[test]
fn a_series_and_a_stranger_cannot_be_told_apart() {
    let there = folder(&["x-00001-of-00001.safetensors", "consolidated.safetensors"]);
    assert!(matches!(open(there.path()), Err(Error::Ambiguous { .. })));
    let there = folder(&[
        "x-00001-of-00001.safetensors",
        "x-00001-of-00002.safetensors",
        "x-00002-of-00002.safetensors",
    ]);
    assert!(matches!(open(there.path()), Err(Error::Ambiguous { .. })));
}

#[test]
fn shards_of_an_index_are_no_choice_of_their_own() {
    let index = format!("model.safetensors.index.json>{},{}", SHARDS[0], SHARDS[1]);
    let there = folder(&[&index, SHARDS[0], SHARDS[1], "consolidated.safetensors"]);
    let resolved = open(there.path()).unwrap();
    assert_eq!(relative(there.path(), &resolved.shards), SHARDS);
    let [other] = &resolved.choice.passed_over[..] else {
        panic!("{}", resolved.choice);
    };
    assert!(other.path.ends_with("consolidated.safetensors"));
    let there = folder(&[
        "my.safetensors.index.json>a.safetensors,b.safetensors",
        "a.safetensors",
        "b.safetensors",
    ]);
    let resolved = open(there.path()).unwrap();
    assert_eq!(
        relative(there.path(), &resolved.shards),
        ["a.safetensors", "b.safetensors"]
    );
    assert!(resolved.choice.passed_over.is_empty());
}

#[test]
fn a_broken_first_choice_is_never_replaced() {
    let index = format!("model.safetensors.index.json>{},{}", SHARDS[0], SHARDS[1]);
    let there = folder(&[&index, SHARDS[0], "pytorch_model.bin"]);
    let error = open(there.path()).unwrap_err();
    let Error::MissingShards {
        missing,
        alternatives,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(missing.len() == 1 && missing[0].path.ends_with(SHARDS[1]));
    assert_eq!(alternatives.len(), 1);
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_never_passed_over() {
    use std::os::unix::fs::symlink;
    let there = folder(&["pytorch_model.bin"]);
    symlink("nowhere", there.path().join("model.safetensors")).unwrap();
    let error = open(there.path()).unwrap_err();
    assert!(
        matches!(&error, Error::DanglingLink { to, .. } if to.ends_with("nowhere")),
        "{error}"
    );
    let there = folder(&["m.safetensors.index.json>a.safetensors"]);
    symlink("nowhere", there.path().join("a.safetensors")).unwrap();
    let error = open(there.path()).unwrap_err();
    assert!(
        matches!(&error, Error::MissingShards { missing, .. } if missing[0].found == "a link to nothing")
    );
    let there = folder(&[]);
    symlink("nowhere", there.path().join("m.safetensors.index.json")).unwrap();
    assert!(matches!(
        open(there.path()),
        Err(Error::DanglingLink { .. })
    ));
    assert!(matches!(
        open(there.path().join("m.safetensors.index.json")),
        Err(Error::DanglingLink { .. })
    ));
}

#[cfg(unix)]
#[test]
fn links_to_folders_and_files_are_followed() {
    use std::os::unix::fs::symlink;
    let there = folder(&["blobs/0", "real/config.json"]);
    symlink("../blobs/0", there.path().join("real/model.safetensors")).unwrap();
    symlink("real", there.path().join("link")).unwrap();
    let resolved = open(there.path().join("link")).unwrap();
    assert_eq!(
        relative(there.path(), &resolved.shards),
        ["link/model.safetensors"]
    );
    assert!(resolved.companions.config.is_some());
}

#[test]
fn variants_count_alone_or_when_asked_for() {
    let chosen = |files: &[&str], variant: Option<&str>| {
        let there = folder(files);
        let mut options = options();
        options.variant = variant.map(str::to_owned);
        resolve(there.path(), &options).map(|resolved| {
            let reasons: Vec<_> = resolved
                .choice
                .passed_over
                .into_iter()
                .map(|other| other.reason)
                .collect();
            (relative(there.path(), &resolved.shards), reasons)
        })
    };
    let fp16 = || Reason::Variant("fp16".to_owned());
    let one = |name: &str| vec![name.to_owned()];
    let both = ["model.safetensors", "model.fp16.safetensors"];
    assert_eq!(chosen(&both, None).unwrap(), (one(both[0]), vec![fp16()]));
    assert_eq!(
        chosen(&both, Some("fp16")).unwrap(),
        (one(both[1]), vec![Reason::Variant(String::new())])
    );
    assert_eq!(chosen(&both[1..], None).unwrap(), (one(both[1]), vec![]));
    // Files without a variant come first, whatever their format.
    let other = ["model.fp16.safetensors", "pytorch_model.bin"];
    assert_eq!(chosen(&other, None).unwrap(), (one(other[1]), vec![fp16()]));
    // Training state is no reason to leave the only model out.
    let state = ["model.fp16.safetensors", "optimizer.pt"];
    assert_eq!(
        chosen(&state, None).unwrap(),
        (one(state[0]), vec![Reason::TrainingState])
    );
    let indexed = [
        "model.safetensors.index.fp16.json>model.fp16-00001-of-00001.safetensors",
        "model.fp16-00001-of-00001.safetensors",
        "model.safetensors",
    ];
    assert_eq!(chosen(&indexed, Some("fp16")).unwrap().0, one(indexed[1]));
    let diffusion = [
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.bin",
        "diffusion_pytorch_model.non_ema.safetensors",
    ];
    assert_eq!(
        chosen(&diffusion, Some("non_ema")).unwrap().0,
        one(diffusion[2])
    );
    let strange = ["unet.safetensors", "unet.fp16.safetensors"];
    assert!(matches!(
        chosen(&strange, None),
        Err(Error::Ambiguous { .. })
    ));
    assert_eq!(chosen(&strange, Some("fp16")).unwrap().0, one(strange[1]));

    let two = ["model.fp16.safetensors", "model.int8.safetensors"];
    assert!(
        matches!(chosen(&two, None), Err(Error::Ambiguous { candidates, .. }) if candidates.len() == 2)
    );
    let error = chosen(&two, Some("bf16")).unwrap_err();
    assert!(
        matches!(&error, Error::NoVariant { available, .. } if available == &["fp16", "int8"]),
        "{error}"
    );
}

#[test]
fn folders_without_a_checkpoint_say_what_is_there() {
    let there = folder(&[]);
    assert!(matches!(open(there.path()), Err(Error::EmptyFolder { .. })));
    for name in [
        "m.gguf",
        "tf_model.h5",
        "flax_model.msgpack",
        "tf_model.h5.index.json",
    ] {
        let there = folder(&[name, "config.json"]);
        let error = open(there.path()).unwrap_err();
        assert!(
            matches!(&error, Error::NoCheckpoint { unsupported, .. } if unsupported.len() == 1),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
        fill(there.path(), &["model.safetensors"]);
        let resolved = open(there.path()).unwrap();
        assert_eq!(resolved.choice.passed_over[0].reason, Reason::Unsupported);
    }
    let there = folder(&[
        "model_index.json",
        "unet/a.safetensors",
        "vae/a.bin",
        "scheduler/a.json",
        ".git/x.bin",
    ]);
    let error = open(there.path()).unwrap_err();
    let Error::NoCheckpoint { folders, .. } = &error else {
        panic!("{error}");
    };
    let folders = relative(there.path(), folders);
    assert_eq!(folders, ["unet", "vae"]);
    // In full, so that they can be copied.
    let unet = format!("{:?}", there.path().join("unet"));
    assert!(error.to_string().contains(&unet), "{error}");
}

#[test]
fn folders_and_hidden_files_are_no_checkpoints() {
    let there = folder(&["model.safetensors/x", "._a.safetensors", "b.safetensors"]);
    assert_eq!(
        relative(there.path(), &open(there.path()).unwrap().shards),
        ["b.safetensors"]
    );
}

#[test]
fn a_choice_becomes_json() {
    let there = folder(&["model.safetensors", "pytorch_model.bin"]);
    let resolved = open(there.path()).unwrap();
    let json = serde_json::to_value(&resolved.choice).unwrap();
    assert_eq!(json["route"], "folder");
    assert_eq!(json["form"], "single");
    assert_eq!(json["passed_over"][0]["reason"], "precedence");
    let text = resolved.choice.to_string();
    assert!(
        text.ends_with(
            "passed over: pytorch_model.bin \
             (comes later in the order of preference; name the file to load it)"
        ),
        "{text}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let there = folder(&["config.json"]);
    let path = there.path().join(OsStr::from_bytes(b"\xff.safetensors"));
    std::fs::write(&path, "").unwrap();
    let resolved = open(there.path()).unwrap();
    assert_eq!(resolved.shards, [path]);
    assert!(
        serde_json::to_string(&resolved.choice)
            .unwrap()
            .contains('\u{fffd}')
    );
}

/// The shards of a folder of these files, and what is passed over.
fn resolved(files: &[&str], options: &ResolveOptions) -> Result<(Vec<String>, Vec<String>), Error> {
    let there = folder(files);
    let resolved = resolve(there.path(), options)?;
    let others = resolved.choice.passed_over.iter();
    let others = others.map(|other| (other.path.clone(), other.files, &other.reason));
    let others = others.map(|(path, files, reason)| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        format!("{name} {files} {reason:?}")
    });
    Ok((relative(there.path(), &resolved.shards), others.collect()))
}

#[test]
fn a_series_is_complete_by_its_lowest_number_and_its_count() {
    for (parts, wanted) in [
        (&["m-00000-of-00002.bin", "m-00001-of-00002.bin"][..], Ok(2)),
        (&["m-0-of-1.bin"], Ok(1)),
        (&["m-00001-of-000002.bin", "m-00002-of-000002.bin"], Ok(2)),
        (
            &["m-1-of-3.pt", "m.00002-of-00003.pt", "m_03_of_3.pt"],
            Ok(3),
        ),
        (&["m.pt-1-of-2.pt", "m-2-of-2.pt"], Ok(2)),
        (&["m-0-of-3.bin", "m-2-of-3.bin"], Err("m-1-of-3.bin")),
        (&["m-02-of-03.bin", "m-03-of-03.bin"], Err("m-01-of-03.bin")),
        (&["m-00000-of-00002.bin"], Err("m-00001-of-00002.bin")),
    ] {
        match (resolved(parts, &options()), wanted) {
            (Ok((shards, others)), Ok(count)) => {
                assert_eq!((shards.len(), others.len()), (count, 0), "{parts:?}");
                let numbers = shards.iter().map(|name| {
                    let number = name.split("of").next().unwrap();
                    let number: String = number.chars().filter(char::is_ascii_digit).collect();
                    number.parse::<u32>().unwrap()
                });
                assert!(numbers.is_sorted(), "{shards:?}");
            }
            (Err(Error::MissingParts { missing, .. }), Err(name)) => {
                assert!(missing[0].ends_with(name), "{parts:?}: {missing:?}");
            }
            (found, _) => panic!("{parts:?}: {found:?}"),
        }
    }
    // Which of them is meant?
    for parts in [
        &["m-0-of-2.bin", "m-1-of-2.bin", "m-2-of-2.bin"][..],
        &["m-1-of-1.bin", "m-01-of-01.bin"],
        &["m-1-of-1.bin", "m_1_of_1.bin"],
    ] {
        let found = resolved(parts, &options());
        assert!(
            matches!(found, Err(Error::Ambiguous { .. })),
            "{parts:?}: {found:?}"
        );
    }
}

#[test]
fn what_the_index_does_not_list_is_named() {
    let index = format!("model.safetensors.index.json>{}", SHARDS[0]);
    let files = [
        &*index,
        SHARDS[0],
        SHARDS[1],
        "original/consolidated.00.pth",
    ];
    let (shards, others) = resolved(&files, &options()).unwrap();
    assert_eq!(shards, [SHARDS[0]]);
    let subfolder = "original 1 Subfolder";
    assert_eq!(others, [&format!("{} 1 Unlisted", SHARDS[1]), subfolder]);

    let without = options().index(IndexUse::Ignore);
    let (shards, others) = resolved(&files, &without).unwrap();
    assert_eq!(shards, SHARDS);
    assert_eq!(
        others,
        ["model.safetensors.index.json 1 IndexIgnored", subfolder]
    );
}

#[test]
fn an_index_that_is_named_is_taken() {
    let there = folder(&[
        "model.safetensors",
        "other.index.json>model.safetensors",
        "elsewhere/my.json>b.bin",
        "b.bin",
    ]);
    let chosen = |file: &str| {
        let options = options().index(IndexUse::File(file.into()));
        let resolved = resolve(there.path(), &options)?;
        Ok::<_, Error>(relative(there.path(), &resolved.shards))
    };
    assert_eq!(chosen("other.index.json").unwrap(), ["model.safetensors"]);
    assert_eq!(chosen("elsewhere/my.json").unwrap(), ["b.bin"]);
    assert!(matches!(chosen("none.json"), Err(Error::NotFound { .. })));
    let options = options().index(IndexUse::File("other.index.json".into()));
    let file = resolve(there.path().join("b.bin"), &options);
    assert!(matches!(file, Err(Error::IndexOfFile { .. })));
}

#[test]
fn files_that_are_named_are_one_checkpoint() {
    let there = folder(&["a1.pt", "a2.pt", "a3.pt", "b"]);
    let path = |name: &str| there.path().join(name);
    let named = resolve_files(&[path("b"), path("a2.pt")]).unwrap();
    assert_eq!(relative(there.path(), &named.shards), ["b", "a2.pt"]);
    assert_eq!(named.choice.form, Form::Files);
    let named = resolve_files(&[path("a2.pt"), path("a1.pt")]).unwrap();
    let [other] = &named.choice.passed_over[..] else {
        panic!("{}", named.choice);
    };
    assert!(other.path.ends_with("a3.pt"));
    assert_eq!((other.files, &other.reason), (1, &Reason::OtherNumber));
    assert!(matches!(
        resolve_files(&[path("a4.pt")]),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(resolve_files(&[]), Err(Error::EmptyTarget)));
    let folder = resolve_files(&[there.path().to_owned()]);
    assert!(matches!(folder, Err(Error::NotAFile { .. })));
}

#[test]
fn unknown_extensions_count_by_their_bytes() {
    fn sniff(path: &Path) -> Sniffed {
        match std::fs::read(path).unwrap().first() {
            Some(b's') => Sniffed::Safetensors,
            Some(b't') => Sniffed::Torch,
            Some(b'x') => Sniffed::Unsupported,
            _ => Sniffed::Other,
        }
    }
    let there = folder(&["README.md"]);
    let write = |name: &str, bytes: &str| std::fs::write(there.path().join(name), bytes).unwrap();
    write("model_best.pth.tar", "t");
    write("notes", "?");
    // Without bytes to tell, such names are nothing.
    assert!(matches!(
        open(there.path()),
        Err(Error::NoCheckpoint { .. })
    ));
    let options = options().sniff(sniff);
    let resolved = resolve(there.path(), &options).unwrap();
    assert_eq!(
        relative(there.path(), &resolved.shards),
        ["model_best.pth.tar"]
    );
    assert!(resolved.choice.passed_over.is_empty());
    write("955717e8.th", "t");
    write("a.zip", "x");
    assert!(matches!(
        resolve(there.path(), &options),
        Err(Error::Ambiguous { candidates, .. }) if candidates.len() == 2
    ));
    write("weights", "s");
    let resolved = resolve(there.path(), &options).unwrap();
    assert_eq!(relative(there.path(), &resolved.shards), ["weights"]);
    assert_eq!(resolved.choice.passed_over.len(), 3);
    // A name that says what it is comes first.
    fill(there.path(), &["z.pt"]);
    let resolved = resolve(there.path(), &options).unwrap();
    assert_eq!(relative(there.path(), &resolved.shards), ["z.pt"]);
    assert_eq!(resolved.choice.passed_over.len(), 4);
}
