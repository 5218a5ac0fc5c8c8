//! Loading the components side by side.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tensorlift_loader::{CancelToken, Loaded};
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use super::{
    Bundle, BundleFiles, BundleOptions, BundleReport, Failures, Span, TokenizerFiles, files_of,
};
use crate::Checkpoint;

/// What a component is once it is loaded.
enum Made {
    Json(Option<Value>),
    Tokenizer(TokenizerFiles),
    #[cfg(feature = "tokenizers")]
    Parsed(Option<Box<tokenizers::Tokenizer>>),
    Weights(Box<Loaded>),
    Other(Box<dyn Any + Send>),
}

/// A component to load.
struct Task<'t> {
    name: &'t str,
    make: Box<dyn Fn() -> Result<Made> + Send + Sync + 't>,
    /// Whether it is not begun once another one has failed: it may take long.
    is_skippable: bool,
}

/// What the threads share.
struct Shared<'t> {
    start: Instant,
    cancel: &'t CancelToken,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    made: BTreeMap<String, Made>,
    spans: Vec<Span>,
    /// In the order in which they came.
    failures: Vec<Error>,
}

pub(super) fn run(options: &BundleOptions<'_>, target: &Path) -> Result<Bundle> {
    let start = Instant::now();
    check_names(options)?;
    let open = options.open.clone();
    let open = match &options.settings {
        Some(settings) => open.settings(settings),
        None => open,
    };
    let checkpoint = open.open(target)?;
    let files = files_of(&checkpoint);
    let cancel = CancelToken::default();
    let (weights, tasks) = tasks(options, &checkpoint, &files, &cancel);
    let shared = Shared {
        start,
        cancel: &cancel,
        done: Mutex::default(),
    };
    thread::scope(|scope| {
        let mut refused = Vec::new();
        for task in &tasks {
            let builder = thread::Builder::new().name(task.name.to_owned());
            if builder.spawn_scoped(scope, || shared.run(task)).is_err() {
                refused.push(task);
            }
        }
        shared.run(&weights);
        // If the system refuses threads, the caller's thread does everything.
        refused.into_iter().for_each(|task| shared.run(task));
    });
    drop((weights, tasks));
    let done = shared
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    finish(checkpoint, done, start)
}

/// The weights, and everything else.
fn tasks<'t>(
    options: &'t BundleOptions<'_>,
    checkpoint: &'t Checkpoint,
    files: &'t BundleFiles,
    cancel: &'t CancelToken,
) -> (Task<'t>, Vec<Task<'t>>) {
    let weights = Task {
        name: "weights",
        make: Box::new(move || {
            let loader = match &options.settings {
                Some(settings) => checkpoint.loader().settings(settings),
                None => checkpoint.loader(),
            };
            let loader = match &options.weights {
                Some(set_up) => set_up(loader),
                None => loader,
            };
            let loaded = loader.cancel_token(cancel.clone()).load()?;
            Ok(Made::Weights(Box::new(loaded)))
        }),
        is_skippable: true,
    };
    let json = |name: &'static str| Task {
        name,
        make: Box::new(move || Ok(Made::Json(files.read_json(name)?))),
        is_skippable: false,
    };
    let mut tasks = vec![
        json("config.json"),
        json("generation_config.json"),
        json("adapter_config.json"),
        Task {
            name: "tokenizer files",
            make: Box::new(move || Ok(Made::Tokenizer(files.tokenizer()?))),
            is_skippable: false,
        },
    ];
    #[cfg(feature = "tokenizers")]
    tasks.push(Task {
        name: "tokenizer.json",
        make: Box::new(move || {
            let tokenizer = files.parse_tokenizer()?;
            Ok(Made::Parsed(tokenizer.map(Box::new)))
        }),
        is_skippable: false,
    });
    for (name, make) in &options.components {
        tasks.push(Task {
            name,
            make: Box::new(move || Ok(Made::Other(make(files)?))),
            is_skippable: true,
        });
    }
    (weights, tasks)
}

impl Shared<'_> {
    /// Runs a task.
    fn run(&self, task: &Task<'_>) {
        if task.is_skippable && self.cancel.is_cancelled() {
            return;
        }
        let start = self.start.elapsed();
        let made = catch_unwind(AssertUnwindSafe(|| (task.make)()));
        let made = made.unwrap_or_else(|_| {
            let found = format!("the component {:?} panicked", task.name);
            Err(Error::new(ErrorKind::Misuse, found))
        });
        let span = Span {
            name: task.name.to_owned(),
            start,
            end: self.start.elapsed(),
        };
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.spans.push(span);
        match made {
            Ok(made) => {
                done.made.insert(task.name.to_owned(), made);
            }
            Err(error) => {
                self.cancel.cancel();
                done.failures.push(error);
            }
        }
    }
}

fn finish(checkpoint: Checkpoint, mut done: Done, start: Instant) -> Result<Bundle> {
    if let Some(error) = failure(done.failures) {
        return Err(error);
    }
    let mut json = |name: &str| match done.made.remove(name) {
        Some(Made::Json(value)) => value,
        _ => None,
    };
    let config = json("config.json");
    let generation_config = json("generation_config.json");
    let adapter_config = json("adapter_config.json");
    let tokenizer = match done.made.remove("tokenizer files") {
        Some(Made::Tokenizer(tokenizer)) => tokenizer,
        _ => TokenizerFiles::default(),
    };
    #[cfg(feature = "tokenizers")]
    let parsed_tokenizer = match done.made.remove("tokenizer.json") {
        Some(Made::Parsed(tokenizer)) => tokenizer.map(|tokenizer| *tokenizer),
        _ => None,
    };
    let Some(Made::Weights(weights)) = done.made.remove("weights") else {
        return Err(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
    };
    let components = done.made.into_iter().filter_map(|(name, made)| match made {
        Made::Other(component) => Some((name, component)),
        _ => None,
    });
    Ok(Bundle {
        checkpoint,
        weights: *weights,
        config,
        generation_config,
        adapter_config,
        tokenizer,
        #[cfg(feature = "tokenizers")]
        parsed_tokenizer,
        components: components.collect(),
        report: BundleReport {
            spans: done.spans,
            wall: start.elapsed(),
        },
    })
}

/// The failures as one error, without those of components that another failure stopped.
fn failure(mut failures: Vec<Error>) -> Option<Error> {
    let is_cause = |error: &Error| error.kind() != ErrorKind::Cancelled;
    if failures.iter().any(is_cause) {
        failures.retain(is_cause);
    }
    match failures.len() {
        0 | 1 => failures.pop(),
        _ => Some(Error::new(failures[0].kind(), Failures { failures })),
    }
}

/// Refuses two components of one name.
fn check_names(options: &BundleOptions<'_>) -> Result<()> {
    const OWN: [&str; 6] = [
        "weights",
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "tokenizer files",
        "tokenizer.json",
    ];
    let mut names: HashSet<&str> = OWN.into();
    let given = options.components.iter().map(|(name, _)| name.as_str());
    let twice: Vec<&str> = given.filter(|name| !names.insert(name)).collect();
    match twice.is_empty() {
        true => Ok(()),
        false => {
            let found = format!("several components have the same name: {twice:?}");
            Err(Error::new(ErrorKind::Misuse, found))
        }
    }
}
