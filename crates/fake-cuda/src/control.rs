//! Calls that no driver has: what is alive, what was called, what is to fail.

use std::ffi::{CStr, c_char};

use crate::gate;
use crate::state::{DeviceState, Fault, state};
use crate::stream::wait_for_all;

/// What is alive, and what went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Primary contexts that are retained, counted by retains.
    pub contexts: u64,
    /// Streams, without the default ones.
    pub streams: u64,
    /// Events.
    pub events: u64,
    /// Device allocations.
    pub allocations: u64,
    /// Bytes of these.
    pub device_bytes: u64,
    /// The most device bytes so far.
    pub peak_device_bytes: u64,
    /// Ranges of pinned host memory.
    pub pinned_ranges: u64,
    /// Bytes of these.
    pub pinned_bytes: u64,
    /// Files registered with cuFile.
    pub files: u64,
    /// Device buffers registered with cuFile.
    pub buffers: u64,
    /// Uploads out of memory that is not pinned.
    pub pageable_copies: u64,
    /// Misuses seen.
    pub violations: u64,
}

impl Counts {
    /// Whether nothing is alive and nothing was misused.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let history = Self {
            peak_device_bytes: self.peak_device_bytes,
            pageable_copies: self.pageable_copies,
            ..Self::default()
        };
        *self == history
    }
}

#[unsafe(no_mangle)]
extern "C" fn fake_cuda_counts(counts: *mut Counts) {
    // What is enqueued may free something.
    wait_for_all();
    let state = state();
    let (allocations, device_bytes) = state.memory.live();
    let (pinned_ranges, pinned_bytes) = state.memory.pinned_live();
    let now = Counts {
        contexts: state.devices.iter().map(|device| device.retained).sum(),
        streams: state.streams.len() as u64,
        events: state.events.len() as u64,
        allocations: allocations as u64,
        device_bytes,
        peak_device_bytes: state.memory.peak_bytes,
        pinned_ranges: pinned_ranges as u64,
        pinned_bytes,
        files: state.files.len() as u64,
        buffers: state.buffers_registered,
        pageable_copies: state.memory.pageable_copies,
        violations: state.violations.len() as u64,
    };
    // SAFETY: the harness gives a pointer to live counts.
    unsafe { counts.write(now) };
}

/// Sets one of the settings; 0 if there is no such.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_set(name: *const c_char, value: u64) -> u32 {
    let name = text(name);
    let mut state = state();
    let Some(field) = state.settings.field(&name) else {
        return 0;
    };
    *field = value;
    if name == "devices" && state.devices.iter().all(|device| device.retained == 0) {
        state.devices = (0..value).map(|_| DeviceState::default()).collect();
    }
    1
}

/// Plans that the `nth` call of this name from now on (counted from 1) fails with `code`, and
/// whether its device is lost with it.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_fail(call: *const c_char, nth: u64, code: u32, loses: u32) {
    let fault = Fault {
        call: text(call),
        number: nth,
        code,
        loses: loses > 0,
    };
    state().plan(fault);
}

#[unsafe(no_mangle)]
extern "C" fn fake_cuda_forget_faults() {
    state().forget_faults();
}

/// Writes a line `name count` for every call so far, and returns how many bytes that takes.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_calls(to: *mut u8, room: usize) -> usize {
    let lines: String = (state().calls.iter())
        .map(|(call, count)| format!("{call} {count}\n"))
        .collect();
    copy_out(&lines, to, room)
}

/// Writes a line `thread name bytes` for every call so far, in order, and returns how many bytes
/// that takes.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_log(to: *mut u8, room: usize) -> usize {
    let lines: String = (state().log.iter())
        .map(|logged| format!("{} {} {}\n", logged.thread, logged.call, logged.bytes))
        .collect();
    copy_out(&lines, to, room)
}

#[unsafe(no_mangle)]
extern "C" fn fake_cuda_forget_log() {
    state().log.clear();
}

/// Keeps the calls of this name waiting; an empty one lets all through.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_gate(call: *const c_char) {
    let call = text(call);
    gate::close((!call.is_empty()).then_some(call));
}

/// Writes a line for every misuse so far, and returns how many bytes that takes.
#[unsafe(no_mangle)]
extern "C" fn fake_cuda_violations(to: *mut u8, room: usize) -> usize {
    copy_out(&state().violations.join("\n"), to, room)
}

fn copy_out(text: &str, to: *mut u8, room: usize) -> usize {
    if text.len() <= room {
        // SAFETY: the harness gives room for as many bytes as it says.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
    }
    text.len()
}

fn text(name: *const c_char) -> String {
    // SAFETY: the harness gives text that is ended by a zero.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}
