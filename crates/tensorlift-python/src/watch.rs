//! Runs a load on a thread of its own while the caller's waits for signals.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tensorlift::CancelToken;

/// How often signals are looked for and progress is told.
const EVERY: Duration = Duration::from_millis(50);

/// How far a load has come, written by its threads and read by the caller's.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    done: AtomicU64,
    total: AtomicU64,
}

impl Counter {
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.done.fetch_max(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed))
    }
}

/// What connects a running load with the thread that waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) cancel: CancelToken,
    pub(crate) counter: Arc<Counter>,
}

/// What a call waits for beside its result.
pub(crate) struct Watch<'py> {
    pub(crate) link: Link,
    /// Called as `progress(bytes_done, bytes_total)`, by the calling thread.
    pub(crate) progress: Option<Bound<'py, PyAny>>,
}

impl<'py> Watch<'py> {
    pub(crate) fn new(progress: Option<Bound<'py, PyAny>>) -> Self {
        Self {
            link: Link::default(),
            progress,
        }
    }

    /// Runs `work` without the GIL; a signal or a failing callback cancels it.
    ///
    /// # Errors
    /// The exception of the signal handler or of the callback.
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'py>,
        work: impl FnOnce() -> T + Send,
    ) -> PyResult<T> {
        let progress = self.progress.as_ref().map(|call| call.clone().unbind());
        let link = self.link.clone();
        // Taken by whichever thread runs it.
        let work = Mutex::new(Some(work));
        let run = || {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            work.map(|work| work())
        };
        let (outcome, told) = py.detach(|| {
            std::thread::scope(|scope| {
                let (send, receive) = mpsc::sync_channel(1);
                let worker = Builder::new().spawn_scoped(scope, move || {
                    let outcome = run();
                    // The receiver lives until this thread is joined.
                    let _ = send.send(());
                    outcome
                });
                let Ok(worker) = worker else {
                    // The system refuses a thread: signals wait until the work is done.
                    return (catch_unwind(AssertUnwindSafe(run)), Ok(()));
                };
                let told = wait(&receive, progress.as_ref(), &link.counter);
                if told.is_err() {
                    link.cancel.cancel();
                }
                (worker.join(), told)
            })
        });
        told?;
        let outcome = outcome.ok().flatten().ok_or_else(|| {
            PyRuntimeError::new_err("tensorlift panicked, which is a bug; please report it")
        })?;
        if let Some(progress) = &self.progress {
            let (done, total) = self.link.counter.get();
            progress.call1((done, total))?;
        }
        Ok(outcome)
    }
}

/// Waits until the work is done, or Python has something to say.
fn wait(
    done: &mpsc::Receiver<()>,
    progress: Option<&Py<PyAny>>,
    counter: &Counter,
) -> PyResult<()> {
    loop {
        match done.recv_timeout(EVERY) {
            // A worker that panicked has hung up.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => Python::attach(|py| {
                py.check_signals()?;
                match (progress, counter.get()) {
                    (Some(progress), (bytes, total)) if total > 0 => {
                        progress.call1(py, (bytes, total)).map(drop)
                    }
                    _ => Ok(()),
                }
            })?,
        }
    }
}
