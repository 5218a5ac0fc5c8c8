use std::io::Write;
use std::time::Instant;

use tensorlift_storage::{Anonymous, os};

use crate::{Checksum, Outcome, Request, Result};

/// Primes memory, times `load`, sums up with `visit` and prints the outcome.
///
/// # Errors
/// Those of `load` and `visit`, and what printing may fail with.
pub fn measure<L>(
    request: &Request,
    load: impl FnOnce() -> Result<L>,
    visit: impl FnOnce(&L, &mut Checksum, &mut Outcome) -> Result<()>,
) -> Result<()> {
    prime(request.prime_bytes)?;
    let resident_before = os::memory().resident;

    let clock = Instant::now();
    let loaded = load()?;
    let seconds = clock.elapsed().as_secs_f64();

    let mut outcome = Outcome {
        seconds,
        phases: Vec::new(),
        note: String::new(),
        resident_before,
        resident_peak: os::memory().peak,
        device_growth: None,
        again: None,
        pinned: None,
        checksum: Checksum::default(),
    };
    let mut checksum = Checksum::default();
    visit(&loaded, &mut checksum, &mut outcome)?;
    outcome.checksum = checksum;

    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &outcome)?;
    writeln!(out)?;
    // The kernel takes the memory back when the process ends, and faster.
    std::mem::forget(loaded);
    Ok(out.flush()?)
}

/// Touches and frees as much memory as a load will need, and forgets the peak.
///
/// A virtual machine may have handed free pages back to its host, and the first touch then costs
/// a fault of the host: every engine starts with the same pages at hand.
fn prime(bytes: u64) -> Result<()> {
    const PAGE: usize = 4096;
    let mut memory = Anonymous::new(usize::try_from(bytes)?)?;
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    std::hint::black_box(&memory[..]);
    drop(memory);
    forget_peak();
    Ok(())
}

/// Lets the peak of this process's memory count from now on.
pub fn forget_peak() {
    // Where this is refused the peak counts from the start, and includes what came before.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
