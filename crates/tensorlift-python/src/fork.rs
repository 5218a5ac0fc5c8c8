//! What a forked child must not use of its parent's.

use std::sync::atomic::{AtomicU32, Ordering};

use tensorlift::DeviceError;

/// The process that used CUDA first; 0 for none.
static CUDA_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Refuses CUDA in a child whose parent has used it: the driver does not survive a fork.
///
/// # Errors
/// In such a child.
pub(crate) fn check_cuda() -> Result<(), DeviceError> {
    let process = std::process::id();
    let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
    match CUDA_PROCESS.compare_exchange(0, process, set, get) {
        Err(parent) if parent != process => Err(DeviceError::Failed {
            device: "cuda".into(),
            operation: "use CUDA in a forked process".into(),
            source: "the parent process has used CUDA, and the driver does not survive a fork; \
                     start the process by spawn"
                .into(),
        }),
        _ => Ok(()),
    }
}
