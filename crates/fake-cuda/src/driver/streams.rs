//! Streams and events.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::{done, give};
use crate::event::Event;
use crate::state::{Code, INVALID_HANDLE, NOT_READY, SUCCESS, enter, enter_release, state};
use crate::stream::{Stream, Work};

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
