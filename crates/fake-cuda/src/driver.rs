//! The driver's calls.
//!
//! Names, order of arguments and codes are those of `cuda.h`. Pointers are trusted as the real
//! driver trusts them: each is what the caller's documentation says, or the call is misuse.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use crate::event::Event;
use crate::state::{
    Code, INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_VALUE, NO_DEVICE,
    NOT_INITIALIZED, NOT_READY, NOT_SUPPORTED, SUCCESS, State, current, enter, enter_release,
    set_current, state,
};
use crate::stream::{HostBytes, Stream, Work};

/// `CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING`.
const UNIFIED_ADDRESSING: c_int = 41;
/// `CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED`.
const MEMORY_POOLS_SUPPORTED: c_int = 115;

fn done(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(SUCCESS)
}

/// Writes a result through a pointer that the caller gave for it.
fn give<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller gave a pointer for a `T` to be written to, and it is not null.
    unsafe { to.write(value) };
    Ok(())
}

fn device_index(state: &State, device: c_int) -> Result<usize, Code> {
    if !state.initialised {
        return Err(NOT_INITIALIZED);
    }
    let index = usize::try_from(device).map_err(|_| INVALID_DEVICE)?;
    match index < state.devices.len() {
        true => Ok(index),
        false => Err(INVALID_DEVICE),
    }
}

// # Start-up, devices, contexts

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> Code {
    done(enter("cuInit").and_then(|mut state| {
        if state.devices.is_empty() {
            return Err(NO_DEVICE);
        }
        state.initialised = true;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    done(
        enter("cuDriverGetVersion")
            .and_then(|state| give(version, state.settings.version as c_int)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    done(
        enter("cuDeviceGetCount").and_then(|state| match state.initialised {
            true => give(count, state.devices.len() as c_int),
            false => Err(NOT_INITIALIZED),
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Code {
    done(enter("cuDeviceGet").and_then(|state| {
        device_index(&state, ordinal)?;
        give(device, ordinal)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> Code {
    const NAME: &[u8] = b"test double, no GPU";
    done(enter("cuDeviceGetName").and_then(|state| {
        device_index(&state, device)?;
        let room = usize::try_from(len).map_err(|_| INVALID_VALUE)?;
        let shown = NAME.len().min(room.checked_sub(1).ok_or(INVALID_VALUE)?);
        // SAFETY: the caller gave room for `len` characters, and `shown` and a zero fit into it.
        unsafe {
            std::ptr::copy_nonoverlapping(NAME.as_ptr().cast(), name, shown);
            name.add(shown).write(0);
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> Code {
    done(
        enter("cuDeviceGetUuid_v2")
            .and_then(|state| give(uuid, [device_index(&state, device)? as u8; 16])),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> Code {
    done(enter("cuDeviceGetAttribute").and_then(|state| {
        device_index(&state, device)?;
        let has = match attribute {
            MEMORY_POOLS_SUPPORTED => state.settings.pools,
            UNIFIED_ADDRESSING => 1,
            _ => 0,
        };
        give(value, has as c_int)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Code {
    done(enter("cuDeviceTotalMem_v2").and_then(|state| {
        device_index(&state, device)?;
        give(bytes, state.settings.memory as usize)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int) -> Code {
    done(enter("cuDevicePrimaryCtxRetain").and_then(|mut state| {
        let index = device_index(&state, device)?;
        if state.devices[index].retained == 0 {
            let handle = state.handle();
            state.devices[index].context = handle;
            state.devices[index].default_stream = Some(Stream::start(index, handle));
        }
        state.devices[index].retained += 1;
        give(context, state.devices[index].context)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    let (mut state, code) = enter_release("cuDevicePrimaryCtxRelease_v2");
    let Ok(index) = device_index(&state, device) else {
        return INVALID_DEVICE;
    };
    let own = &mut state.devices[index];
    match own.retained {
        0 => return INVALID_CONTEXT,
        1 => {
            let context = std::mem::take(&mut own.context);
            let lost = own.lost.take().is_some();
            if let Some(stream) = own.default_stream.take() {
                stream.close();
            }
            if lost {
                state.lost_contexts.insert(context);
            }
        }
        _ => {}
    }
    state.devices[index].retained -= 1;
    code
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: usize) -> Code {
    done(enter("cuCtxSetCurrent").and_then(|state| {
        let mut live = state.devices.iter().filter(|device| device.retained > 0);
        if context != 0 && !live.any(|device| device.context == context) {
            return Err(INVALID_CONTEXT);
        }
        set_current(context);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: *mut usize) -> Code {
    done(enter("cuCtxGetCurrent").and_then(|_| give(context, current())))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Code {
    let streams = enter("cuCtxSynchronize").and_then(|state| {
        let device = state.needs_context()?;
        let own = state
            .streams
            .values()
            .chain(&state.devices[device].default_stream);
        let own: Vec<_> = own.filter(|s| s.device == device).cloned().collect();
        Ok((device, own))
    });
    match streams {
        Err(code) => code,
        Ok((device, streams)) => {
            streams.iter().for_each(|stream| stream.wait());
            state().devices[device].lost.unwrap_or(SUCCESS)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code {
    done(enter("cuMemGetInfo_v2").and_then(|state| {
        let device = state.needs_context()?;
        let memory = state.settings.memory;
        let taken = state.memory.used(device) + state.settings.pool_idle;
        give(free, memory.saturating_sub(taken) as usize)?;
        give(total, memory as usize)
    }))
}

// # Streams and events

fn create_stream(call: &'static str, stream: *mut usize) -> Code {
    done(enter(call).and_then(|mut state| {
        let device = state.needs_context()?;
        let handle = state.handle();
        let context = state.devices[device].context;
        state.streams.insert(handle, Stream::start(device, context));
        give(stream, handle)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: *mut usize, _flags: c_uint) -> Code {
    create_stream("cuStreamCreate", stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(
    stream: *mut usize,
    _flags: c_uint,
    _priority: c_int,
) -> Code {
    create_stream("cuStreamCreateWithPriority", stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: usize) -> Code {
    let (mut state, code) = enter_release("cuStreamDestroy_v2");
    match state.streams.remove(&stream) {
        Some(stream) => {
            stream.close();
            code
        }
        None => INVALID_HANDLE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: usize) -> Code {
    let found = enter("cuStreamSynchronize").and_then(|state| state.stream(stream));
    match found {
        Err(code) => code,
        Ok(stream) => {
            stream.wait();
            state().devices[stream.device].lost.unwrap_or(SUCCESS)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: usize) -> Code {
    done(
        enter("cuStreamQuery").and_then(|state| match state.stream(stream)?.is_idle() {
            true => Ok(()),
            false => Err(NOT_READY),
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) -> Code {
    done(enter("cuStreamWaitEvent").and_then(|state| {
        let event = state.event(event)?;
        let ticket = event.recorded();
        state.stream(stream)?.enqueue(Work::Await(event, ticket));
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: *mut usize, _flags: c_uint) -> Code {
    done(enter("cuEventCreate").and_then(|mut state| {
        state.needs_context()?;
        let handle = state.handle();
        state.events.insert(handle, Arc::new(Event::default()));
        give(event, handle)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: usize) -> Code {
    let (mut state, code) = enter_release("cuEventDestroy_v2");
    match state.events.remove(&event) {
        Some(_) => code,
        None => INVALID_HANDLE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: usize, stream: usize) -> Code {
    done(enter("cuEventRecord").and_then(|state| {
        let (event, stream) = (state.event(event)?, state.stream(stream)?);
        let ticket = event.record();
        stream.enqueue(Work::Reach(event, ticket));
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: usize) -> Code {
    done(
        enter("cuEventQuery").and_then(|state| match state.event(event)?.is_complete() {
            true => Ok(()),
            false if state.settings.skip_waits > 0 => Ok(()),
            false => Err(NOT_READY),
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: usize) -> Code {
    let found = enter("cuEventSynchronize").and_then(|state| {
        let skips = state.settings.skip_waits > 0;
        Ok((state.event(event)?, skips, state.current_device()))
    });
    match found {
        Err(code) => code,
        Ok((event, skips, device)) => {
            if !skips {
                event.wait(event.recorded());
            }
            let lost = device.and_then(|device| state().devices[device].lost);
            lost.unwrap_or(SUCCESS)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, _start: usize, _end: usize) -> Code {
    done(enter("cuEventElapsedTime").and_then(|_| give(milliseconds, 0.0)))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: *mut f32, _start: usize, _end: usize) -> Code {
    done(enter("cuEventElapsedTime_v2").and_then(|_| give(milliseconds, 0.0)))
}

// # Memory

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

// # Copies

/// Enqueues an upload from host memory that the caller vouches for.
fn upload(
    state: &mut State,
    to: u64,
    from: usize,
    len: usize,
    stream: &Stream,
) -> Result<(), Code> {
    if state.memory.bytes(to, len, None).is_none() {
        return Err(INVALID_VALUE);
    }
    let from = match state.memory.is_pinned(from, len) {
        true => HostBytes::Pinned { start: from, len },
        false => {
            state.memory.pageable_copies += 1;
            // SAFETY: the caller gave `len` readable bytes at `from`.
            HostBytes::Taken(unsafe { std::slice::from_raw_parts(from as *const u8, len) }.to_vec())
        }
    };
    stream.enqueue(Work::Upload { to, from });
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    len: usize,
    stream: usize,
) -> Code {
    done(enter("cuMemcpyHtoDAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        upload(&mut state, to, from.addr(), len, &stream)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, stream: usize) -> Code {
    let waits = enter("cuMemcpyDtoHAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        if state.memory.bytes(from, len, None).is_none() {
            return Err(INVALID_VALUE);
        }
        let to = to.addr();
        stream.enqueue(Work::Download { to, from, len });
        // The driver comes back late from a copy to memory that is not pinned.
        Ok((!state.memory.is_pinned(to, len)).then_some(stream))
    });
    match waits {
        Err(code) => code,
        Ok(stream) => {
            stream.inspect(|stream| stream.wait());
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: usize) -> Code {
    done(enter("cuMemcpyDtoDAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        for address in [to, from] {
            if state.memory.bytes(address, len, None).is_none() {
                return Err(INVALID_VALUE);
            }
        }
        stream.enqueue(Work::Move { to, from, len });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, byte: u8, len: usize, stream: usize) -> Code {
    done(enter("cuMemsetD8Async").and_then(|mut state| {
        let stream = state.stream(stream)?;
        if state.memory.bytes(to, len, None).is_none() {
            return Err(INVALID_VALUE);
        }
        stream.enqueue(Work::Fill { to, byte, len });
        Ok(())
    }))
}

/// The arguments that both versions of the batched copy share.
struct Batch {
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    stream: usize,
}

fn batch(call: &'static str, batch: &Batch) -> Code {
    done(enter(call).and_then(|mut state| {
        if state.settings.batch == 0 {
            return Err(NOT_SUPPORTED);
        }
        let wrong = batch.attributes.is_null() || batch.attribute_starts.is_null();
        // The legacy default stream is refused, and at least one set of attributes asked for.
        if batch.stream <= 2 || batch.count == 0 || batch.attribute_count == 0 || wrong {
            return Err(INVALID_VALUE);
        }
        let stream = state.stream(batch.stream)?;
        for i in 0..batch.count {
            // SAFETY: the caller gave three arrays of `count` elements.
            let (to, from, len) =
                unsafe { (*batch.to.add(i), *batch.from.add(i), *batch.sizes.add(i)) };
            let from = usize::try_from(from).map_err(|_| INVALID_VALUE)?;
            upload(&mut state, to, from, len, &stream)?;
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyBatchAsync(
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    _failed: *mut usize,
    stream: usize,
) -> Code {
    let arguments = Batch {
        to,
        from,
        sizes,
        count,
        attributes,
        attribute_starts,
        attribute_count,
        stream,
    };
    batch("cuMemcpyBatchAsync", &arguments)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyBatchAsync_v2(
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    stream: usize,
) -> Code {
    let arguments = Batch {
        to,
        from,
        sizes,
        count,
        attributes,
        attribute_starts,
        attribute_count,
        stream,
    };
    batch("cuMemcpyBatchAsync_v2", &arguments)
}

// # Errors

/// The name of a code, ended by a zero, for those that the double returns and tests plan.
fn error_name(code: Code) -> &'static [u8] {
    match code {
        SUCCESS => b"CUDA_SUCCESS\0",
        1 => b"CUDA_ERROR_INVALID_VALUE\0",
        2 => b"CUDA_ERROR_OUT_OF_MEMORY\0",
        3 => b"CUDA_ERROR_NOT_INITIALIZED\0",
        100 => b"CUDA_ERROR_NO_DEVICE\0",
        101 => b"CUDA_ERROR_INVALID_DEVICE\0",
        201 => b"CUDA_ERROR_INVALID_CONTEXT\0",
        214 => b"CUDA_ERROR_ECC_UNCORRECTABLE\0",
        400 => b"CUDA_ERROR_INVALID_HANDLE\0",
        600 => b"CUDA_ERROR_NOT_READY\0",
        700 => b"CUDA_ERROR_ILLEGAL_ADDRESS\0",
        712 => b"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED\0",
        713 => b"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED\0",
        719 => b"CUDA_ERROR_LAUNCH_FAILED\0",
        801 => b"CUDA_ERROR_NOT_SUPPORTED\0",
        _ => b"CUDA_ERROR_UNKNOWN\0",
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: Code, name: *mut *const c_char) -> Code {
    done(give(name, error_name(code).as_ptr().cast()))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    done(give(text, error_name(code).as_ptr().cast()))
}
