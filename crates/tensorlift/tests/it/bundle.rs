//! Configuration, tokenizer and weights side by side.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use tensorlift::bundle::{Bundle, Failures};
use tensorlift::settings::Settings;
use tensorlift::{Dtype, Error, ErrorKind, LoadOptions};
use tensorlift_fixture_kit::{CheckpointSpec, Format};

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny-model");

/// A copy of the tiny model that a test can spoil.
fn tiny_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(Path::new(TINY_MODEL).join(name), folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn everything_is_there_and_the_report_says_when() {
    #[derive(Deserialize)]
    struct Config {
        hidden_size: usize,
    }

    let folder = tiny_model();
    fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\n").unwrap();
    let mut bundle = Bundle::options()
        .weights(|loader| loader.select(|entry| entry.name().ends_with("bias")))
        .component("words", |files| {
            let vocabulary = files.read("vocab.txt")?.unwrap_or_default();
            Ok(vocabulary.split(|byte| *byte == b'\n').count() - 1)
        })
        .open(folder.path())
        .unwrap();
    assert!(bundle.weights().tensors().len() < bundle.checkpoint().catalog().len());
    let config: Config = bundle.config_as().unwrap();
    let bias = bundle
        .weights()
        .tensor("embeddings.LayerNorm.bias")
        .unwrap();
    assert_eq!(bias.shape(), [config.hidden_size]);
    assert!(bundle.generation_config().is_none() && bundle.adapter_config().is_none());
    let tokenizer = bundle.tokenizer();
    let expected = fs::read(folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.tokenizer.as_ref(), Some(&expected));
    assert_eq!(
        tokenizer.vocabulary_text.as_deref(),
        Some(&b"[PAD]\n[UNK]\n"[..])
    );
    assert!(bundle.take_component::<String>("words").is_none());
    assert_eq!(bundle.take_component::<usize>("words"), Some(2));
    assert!(bundle.component::<usize>("words").is_none());
    let report = bundle.report();
    let parsed = usize::from(cfg!(feature = "tokenizers"));
    assert_eq!(report.spans.len(), 6 + parsed);
    assert!(
        report
            .spans
            .iter()
            .all(|span| span.start <= span.end && span.end <= report.wall)
    );
    assert!(report.to_string().contains("weights"));
}

#[test]
fn a_configuration_that_is_no_json_is_named() {
    let folder = tiny_model();
    fs::write(folder.path().join("config.json"), "{").unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.path().unwrap().ends_with("config.json"));
}

#[test]
fn all_components_that_fail_are_named() {
    let folder = tiny_model();
    fs::write(folder.path().join("config.json"), "{").unwrap();
    fs::write(folder.path().join("generation_config.json"), "[1,").unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let several: &Failures = error.get_ref().downcast_ref().unwrap();
    let mut paths: Vec<_> = several
        .failures
        .iter()
        .map(|it| it.path().unwrap())
        .collect();
    paths.sort();
    assert!(paths[0].ends_with("config.json") && paths[1].ends_with("generation_config.json"));
    let text = error.to_string();
    assert!(
        paths
            .iter()
            .all(|path| text.contains(path.to_str().unwrap())),
        "{text}"
    );
}

#[test]
fn a_failure_stops_weights_that_are_being_read() {
    const CHUNKS: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let spec = CheckpointSpec::new(Format::safetensors()).tensor("w", Dtype::U8, [CHUNKS * 4096]);
    fs::write(folder.path().join("model.safetensors"), spec.to_bytes()).unwrap();
    let is_failing = Arc::new(AtomicBool::new(false));
    let chunks = Arc::new(AtomicUsize::new(0));
    let (failing, seen) = (Arc::clone(&is_failing), Arc::clone(&chunks));
    let options = Bundle::options()
        .weights(move |loader| {
            let (failing, seen) = (Arc::clone(&failing), Arc::clone(&seen));
            let options = LoadOptions::default().chunk_bytes(4096).read_threads(1);
            loader.options(options).progress(move |_| {
                seen.fetch_add(1, Ordering::Relaxed);
                while !failing.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                // Long enough for the failure to be seen by one of many chunks.
                thread::sleep(Duration::from_millis(1));
            })
        })
        .component::<()>("adapter", |_| {
            while chunks.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            is_failing.store(true, Ordering::Relaxed);
            Err(Error::new(
                ErrorKind::Unsupported,
                "an adapter of another model",
            ))
        });
    let error = options.open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let chunks = chunks.load(Ordering::Relaxed);
    assert!((1..CHUNKS).contains(&chunks), "{chunks} chunks");
}

#[test]
#[cfg(feature = "tokenizers")]
fn tokenizers_are_parsed_beside_the_weights() {
    let folder = tiny_model();
    let bundle = Bundle::open(folder.path()).unwrap();
    let tokenizer = bundle.parsed_tokenizer().unwrap();
    assert!(!tokenizer.encode("a text", true).unwrap().is_empty());
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.path().unwrap().ends_with("tokenizer.json"));
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let bundle = Bundle::open(folder.path()).unwrap();
    assert!(bundle.parsed_tokenizer().is_none());
}

/// The tiny model in both formats, that of safetensors cut short.
fn with_broken_safetensors() -> tempfile::TempDir {
    let folder = tiny_model();
    let torch = format!("{TINY_MODEL}/../sharded-torch");
    for entry in fs::read_dir(torch).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    let cut = &whole[..whole.len() - 1];
    fs::write(folder.path().join("model.safetensors"), cut).unwrap();
    folder
}

#[test]
fn the_other_format_is_taken_only_where_that_is_allowed() {
    let folder = with_broken_safetensors();
    let error = Bundle::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let settings = Settings::from_variables([("TENSORLIFT_FALLBACK", "1")]).unwrap();
    let bundle = Bundle::options().settings(&settings);
    let bundle = bundle.open(folder.path()).unwrap();
    let report = bundle.weights().report();
    assert_eq!(report.settings, settings.in_force());
    assert!(
        report
            .files
            .iter()
            .all(|file| file.format.starts_with("torch"))
    );
    let refused = report.choice.passed_over.iter();
    let mut refused = refused.filter(|other| other.what.ends_with("model.safetensors"));
    let why = &refused.next().unwrap().why;
    assert!(why.contains("could not be opened"), "{why}");
    // The one that is preferred needs no fallback.
    let settings = Settings::from_variables([("TENSORLIFT_FORMAT", "torch")]).unwrap();
    let bundle = Bundle::options().settings(&settings);
    let bundle = bundle.open(folder.path()).unwrap();
    let why = &bundle.weights().report().choice.passed_over;
    assert!(
        why.iter()
            .all(|other| !other.why.contains("could not be opened"))
    );
}

#[test]
fn where_nothing_else_is_there_the_first_failure_counts() {
    let folder = tiny_model();
    fs::write(folder.path().join("model.safetensors"), "no header").unwrap();
    let options = tensorlift::Checkpoint::options().fallback(true);
    let error = options.open(folder.path()).unwrap_err();
    assert!(error.path().unwrap().ends_with("model.safetensors"));
}

#[test]
fn a_component_that_fails_stops_the_rest() {
    let refused = Bundle::options()
        .component::<()>("adapter", |_| {
            Err(Error::new(
                ErrorKind::Unsupported,
                "an adapter of another model",
            ))
        })
        .open(TINY_MODEL)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let calls = AtomicUsize::new(0);
    let options =
        Bundle::options().component("panic", |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("this is part of the test"),
            calls => Ok(calls),
        });
    let error = options.open(TINY_MODEL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(error.to_string().contains("panicked"), "{error}");
    // A failure leaves nothing behind.
    let bundle = options.open(TINY_MODEL).unwrap();
    assert_eq!(bundle.component::<usize>("panic"), Some(&1));
}

#[test]
fn names_are_given_once() {
    let options = Bundle::options().component("weights", |_| Ok(()));
    assert_eq!(
        options.open(TINY_MODEL).unwrap_err().kind(),
        ErrorKind::Misuse
    );
    let error = Bundle::open("no/such/folder").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
