//! Device memory, pools, pinned host memory.

use std::ffi::c_uint;

use super::{done, give};
use crate::state::{Code, INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY, enter, enter_release};
use crate::stream::Work;

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: *mut u64, len: usize) -> Code {
    done(enter("cuMemAlloc_v2").and_then(|mut state| {
        let device = state.needs_context()?;
        state.about(len);
        let total = state.settings.memory;
        give(address, state.memory.allocate(device, len, total, None)?)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Code {
    let (mut state, code) = enter_release("cuMemFree_v2");
    if let Err(code) = state.needs_context() {
        return code;
    }
    match state.memory.free(address) {
        Ok(()) => code,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: *mut u64, len: usize, stream: usize) -> Code {
    done(enter("cuMemAllocAsync").and_then(|mut state| {
        let stream = state.stream(stream)?;
        if state.settings.pools == 0 {
            return Err(NOT_SUPPORTED);
        }
        let total = state.settings.memory;
        let made = state
            .memory
            .allocate(stream.device, len, total, Some(stream.number))?;
        stream.enqueue(Work::Ready(made));
        give(address, made)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, stream: usize) -> Code {
    let (state, code) = enter_release("cuMemFreeAsync");
    match state.stream(stream) {
        Ok(stream) if state.memory.is_base(address) => {
            stream.enqueue(Work::Free(address));
            code
        }
        Ok(_) => INVALID_VALUE,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(start: *mut usize, len: usize, _flags: c_uint) -> Code {
    done(enter("cuMemHostAlloc").and_then(|mut state| {
        state.needs_context()?;
        give(start, state.memory.host_alloc(len))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(start: usize) -> Code {
    let (mut state, code) = enter_release("cuMemFreeHost");
    if let Err(code) = state.needs_context() {
        return code;
    }
    match state.memory.host_free(start) {
        Ok(()) => code,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostRegister_v2(start: usize, len: usize, _flags: c_uint) -> Code {
    done(enter("cuMemHostRegister_v2").and_then(|mut state| {
        state.needs_context()?;
        state.about(len);
        match state.settings.host_register {
            0 => Err(NOT_SUPPORTED),
            _ if state.memory.pinned_live().1 + len as u64 > state.settings.register_most => {
                Err(OUT_OF_MEMORY)
            }
            _ => state.memory.register(start, len),
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostUnregister(start: usize) -> Code {
    let (mut state, code) = enter_release("cuMemHostUnregister");
    if let Err(code) = state.needs_context() {
        return code;
    }
    match state.memory.unregister(start) {
        Ok(()) => code,
        Err(code) => code,
    }
}
