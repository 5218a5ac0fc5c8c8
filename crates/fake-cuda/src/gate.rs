//! Calls that a test keeps waiting.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::state::Code;

/// `CUDA_ERROR_TIMEOUT`.
const TIMEOUT: Code = 909;
/// A call that waits longer than this is not going to be let through.
const PATIENCE: Duration = Duration::from_secs(20);

static CLOSED: Mutex<Option<String>> = Mutex::new(None);
static OPENED: Condvar = Condvar::new();

/// Keeps the calls of this name waiting; none: lets all through.
pub(crate) fn close(call: Option<String>) {
    *CLOSED.lock().unwrap_or_else(PoisonError::into_inner) = call;
    OPENED.notify_all();
}

/// Waits while calls of this name are kept waiting, and fails if that has no end.
pub(crate) fn pass(call: &str) -> Result<(), Code> {
    let closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_closed = |closed: &mut Option<String>| closed.as_deref() == Some(call);
    let (_closed, waited) = OPENED
        .wait_timeout_while(closed, PATIENCE, is_closed)
        .unwrap_or_else(PoisonError::into_inner);
    match waited.timed_out() {
        true => Err(TIMEOUT),
        false => Ok(()),
    }
}
