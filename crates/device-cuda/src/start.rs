//! Starting the driver on its own thread.
//!
//! `cuInit` and the primary context take 0.12 to 0.25 s on an H100, and do not depend on the
//! checkpoint, which is opened, parsed and planned meanwhile.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::driver::{Context, OpenError, Stream, find_driver};

/// A driver that has started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) context: Arc<Context>,
    /// Copies back and within the device.
    pub(crate) home: Arc<Stream>,
    pub(crate) took: Duration,
}

/// A driver that is starting, or has.
#[derive(Debug)]
pub(crate) struct Start {
    ordinal: usize,
    outcome: OnceLock<StartResult>,
    /// Taken by the first thread that waits.
    thread: Mutex<Option<JoinHandle<StartResult>>>,
}

type StartResult = Result<Started, OpenError>;

impl Start {
    /// Begins; an error at once only if there is no driver.
    pub(crate) fn begin(ordinal: usize) -> Result<Self, OpenError> {
        find_driver()?;
        let thread = thread::Builder::new().name("cuda-start".into());
        Ok(Self {
            ordinal,
            outcome: OnceLock::new(),
            // If the system refuses a thread, the first thread that waits starts it.
            thread: Mutex::new(thread.spawn(move || start(ordinal)).ok()),
        })
    }

    /// The driver, once it has started.
    pub(crate) fn wait(&self) -> Result<&Started, OpenError> {
        let join = || match self.take_thread().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => start(self.ordinal),
        };
        self.outcome
            .get_or_init(join)
            .as_ref()
            .map_err(Clone::clone)
    }

    fn take_thread(&self) -> Option<JoinHandle<StartResult>> {
        let thread = self.thread.lock();
        thread.unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn start(ordinal: usize) -> StartResult {
    let begun = Instant::now();
    let context = Context::open(ordinal)?;
    let home = Stream::new(&context)?;
    Ok(Started {
        context,
        home,
        took: begun.elapsed(),
    })
}

impl Drop for Start {
    /// Waits: a process that ends while its driver starts may crash in it.
    fn drop(&mut self) {
        if let Some(thread) = self.take_thread() {
            drop(thread.join());
        }
    }
}
