//! Device memory, pools, pinned host memory.

use std::ffi::{c_int, c_uint};

use super::{device_index, done, give};
use crate::state::{Code, INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY, enter, enter_release};
use crate::stream::Work;

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: *mut u64, len: usize) -> Code {
    done(enter("cuMemAlloc_v2").and_then(|mut state| {
        let device = state.needs_context()?;
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
extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut usize, device: c_int) -> Code {
    done(enter("cuDeviceGetDefaultMemPool").and_then(|state| {
        let index = device_index(&state, device)?;
        match state.settings.pools {
            0 => Err(NOT_SUPPORTED),
            // Any value that is not null and leads back.
            _ => give(pool, index + 1),
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: usize, attribute: c_uint, value: *mut u64) -> Code {
    /// `CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT`.
    const RESERVED: c_uint = 5;
    /// `CU_MEMPOOL_ATTR_USED_MEM_CURRENT`.
    const USED: c_uint = 7;
    done(enter("cuMemPoolGetAttribute").and_then(|state| {
        let device = pool.checked_sub(1).ok_or(INVALID_VALUE)?;
        let used = state.memory.used(device);
        match attribute {
            RESERVED => give(value, used + state.settings.pool_idle),
            USED => give(value, used),
            _ => Err(INVALID_VALUE),
        }
    }))
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
