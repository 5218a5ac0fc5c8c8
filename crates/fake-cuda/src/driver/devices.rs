//! Start-up, devices, contexts.

use std::ffi::{c_char, c_int, c_uint};

use super::{device_index, done, give};
use crate::state::{
    Code, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_INITIALIZED, SUCCESS,
    current, enter, enter_release, set_current, state,
};
use crate::stream::Stream;

/// `CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING`.
const UNIFIED_ADDRESSING: c_int = 41;
/// `CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED`.
const MEMORY_POOLS_SUPPORTED: c_int = 115;

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
        let taken = state.memory.used(device);
        give(free, memory.saturating_sub(taken) as usize)?;
        give(total, memory as usize)
    }))
}
