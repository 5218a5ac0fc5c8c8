use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops a load from outside; all clones are one token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops every load that has this token, each within the chunk it is reading.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are in place.
    pub bytes_done: u64,
    /// Bytes that the plan reads in all.
    pub bytes_total: u64,
    /// Tensors whose last bytes arrived; tensors that share memory count once.
    pub tensors_done: usize,
    /// Tensors in all, counted likewise.
    pub tensors_total: usize,
    /// Shards that were read to their last byte.
    pub files_done: usize,
    /// Shards of which something is read.
    pub files_total: usize,
}

/// Called by the reading threads after each chunk, concurrently.
pub type ProgressFn = dyn Fn(Progress) + Send + Sync;

/// How the caller stops and follows a running load.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Control {
    /// Stops the load.
    pub cancel: CancelToken,
    /// Follows the load.
    pub progress: Option<Arc<ProgressFn>>,
}

impl Control {
    /// Lets `token` stop the load.
    #[must_use]
    pub fn cancel_token(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Calls `progress` after each chunk, from the reading threads.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}
