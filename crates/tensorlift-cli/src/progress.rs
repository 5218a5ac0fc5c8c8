//! Progress bars, on terminals only.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tensorlift::{Bytes, Control};
use tracing::level_filters::LevelFilter;

/// Whether a bar can be drawn: on a terminal, and where no log is written between its lines.
fn has_place() -> bool {
    let is_logged = LevelFilter::current() >= LevelFilter::INFO;
    std::io::stderr().is_terminal() && !is_logged
}

/// A bar on standard error if that is a terminal; gone once it is dropped.
pub(crate) struct Bar(Option<Shared>);

#[derive(Clone)]
struct Shared {
    bar: ProgressBar,
    /// The most bytes that were reported: reports of several threads overtake each other.
    most: Arc<AtomicU64>,
}

impl Bar {
    /// A bar for a number of bytes that is not known yet.
    pub(crate) fn start() -> Self {
        Self::of(0)
    }

    /// A bar for `bytes` bytes.
    pub(crate) fn of(bytes: u64) -> Self {
        if !has_place() {
            return Self(None);
        }
        let bar = ProgressBar::new(bytes);
        let template = "{bar:20} {done} of {total} {rate} {eta} {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(
                style
                    .with_key("done", |state: &ProgressState, out: &mut dyn fmt::Write| {
                        let _ = write!(out, "{}", Bytes(state.pos()));
                    })
                    .with_key(
                        "total",
                        |state: &ProgressState, out: &mut dyn fmt::Write| {
                            let _ = write!(out, "{}", Bytes(state.len().unwrap_or(0)));
                        },
                    )
                    // Since the start: a rate of the last moment is 0 between two large reads.
                    .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
                        let rate = state.pos() as f64 / state.elapsed().as_secs_f64().max(1e-3);
                        let _ = write!(out, "{}/s", Bytes(rate as u64));
                    }),
            );
        }
        let most = Arc::default();
        Self(Some(Shared { bar, most }))
    }

    /// What a load reports its progress to.
    pub(crate) fn control(&self) -> Control {
        match self.0.clone() {
            None => Control::default(),
            Some(shared) => Control::default().progress(move |progress| {
                shared.bar.set_length(progress.bytes_total);
                let files = format!("{}/{} files", progress.files_done, progress.files_total);
                // Where files alone are hashed, no tensors are known.
                shared.bar.set_message(match progress.tensors_total {
                    0 => format!("({files})"),
                    all => format!("({}/{all} tensors, {files})", progress.tensors_done),
                });
                shared.set(progress.bytes_done);
            }),
        }
    }

    /// Reports that `done` bytes are done in all.
    pub(crate) fn set(&self, done: u64) {
        if let Some(shared) = &self.0 {
            shared.set(done);
        }
    }
}

/// A bar of steps, on a terminal; gone once it is dropped.
pub(crate) struct Steps(Option<ProgressBar>);

impl Steps {
    pub(crate) fn of(count: usize) -> Self {
        if !has_place() {
            return Self(None);
        }
        let bar = ProgressBar::new(count as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos} of {len} {wide_msg}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// The next step, by its name.
    pub(crate) fn next(&self, name: &str) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
            bar.set_message(name.to_owned());
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Shared {
    fn set(&self, done: u64) {
        let before = self.most.fetch_max(done, Ordering::Relaxed);
        self.bar.set_position(before.max(done));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.bar.finish_and_clear();
        }
    }
}
